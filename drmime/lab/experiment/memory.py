"""The memory that a process has used."""

import contextlib
import ctypes
import re
from pathlib import Path


def forget_peak_memory() -> float | None:
    """Reset the peak of the resident memory, where the system can (Linux). -> the resident size now, in MB, or None"""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # Windows cannot load a library without a name
        ctypes.CDLL(None).malloc_trim(0)  # return memory that earlier tasks have freed
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak_memory()


def peak_memory() -> float | None:
    """The peak resident size of the process in MB; None where the system does not state it (not Linux)."""
    try:
        found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    except OSError:
        return None
    return None if found is None else int(found[1]) / 1000

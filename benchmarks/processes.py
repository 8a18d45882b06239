"""Whole processes of `register`, import included: two checkouts in turn on the same pairs.

    python benchmarks/processes.py OLD NEW [--file ../shared/data/pairs.csv] [--count 20]

OLD and NEW are folders that hold a `drmime` package each. CPU seconds and peak memory of each process, one thread.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path

from drmime.lab.datasets.tables import pairs

CODE = """
import sys
import drmime
assert drmime.__file__.startswith(sys.argv[3]), f"expected a package in {sys.argv[3]}, got {drmime.__file__}"
drmime.register(sys.argv[1], sys.argv[2])
"""


def cost(folder: Path, fixed: str, moving: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of one process."""
    place = str(folder.resolve())
    words = [sys.executable, "-P", "-c", CODE, fixed, moving, place]
    process = os.posix_spawn(sys.executable, words, os.environ | {"PYTHONPATH": place, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{folder}: register failed on {fixed} and {moving}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--file", default="../shared/data/pairs.csv")
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()
    chosen = pairs(args.file, where={"ndim": 2, "already_aligned": 0}, skip={"fixed_landmarks": ""}, limit=args.count)
    ratios, memories = [], []
    for pair in chosen:
        old, new = (cost(folder, str(pair.fixed), str(pair.moving)) for folder in (args.old, args.new))
        ratios.append(new[0] / old[0])
        memories.append(new[1] / old[1])
        print(
            f"{pair.name:50s} {old[0]:6.1f} s {new[0]:6.1f} s {ratios[-1]:5.2f}   {old[1]:5.0f} {new[1]:5.0f} MiB", flush=True
        )
    print(f"median ratio of CPU seconds {statistics.median(ratios):.2f}, of peak memory {statistics.median(memories):.2f}")


if __name__ == "__main__":
    main()

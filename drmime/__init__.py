"""drmime: align images that look nothing alike, by neural mutual information over Lie groups."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from drmime.errors import InputError
from drmime.version import __version__

if TYPE_CHECKING:
    from drmime.device import Device
    from drmime.geometry.grid import Grid
    from drmime.image.door import as_image
    from drmime.image.image import Image
    from drmime.mosaic.registration import stitch
    from drmime.mosaic.result import Mosaic
    from drmime.optimise import Observer, Step, Stop
    from drmime.registration import IncompleteError, Interrupted, register
    from drmime.result import Registration
    from drmime.schedule import Schedule
    from drmime.stack.registration import register_stack
    from drmime.stack.result import Stack
    from drmime.start.doubts import Doubt
    from drmime.start.plan import Start
    from drmime.transform.formats.files import read_transform
    from drmime.verdict.judge import Status, Verdict

__all__ = [
    "Device",
    "Doubt",
    "Grid",
    "Image",
    "IncompleteError",
    "InputError",
    "Interrupted",
    "Mosaic",
    "Observer",
    "Registration",
    "Schedule",
    "Stack",
    "Start",
    "Status",
    "Step",
    "Stop",
    "Verdict",
    "__version__",
    "as_image",
    "read_transform",
    "register",
    "register_stack",
    "stitch",
]

_HOMES = {
    "device": ("Device",),
    "geometry.grid": ("Grid",),
    "image.door": ("as_image",),
    "image.image": ("Image",),
    "mosaic.registration": ("stitch",),
    "mosaic.result": ("Mosaic",),
    "optimise": ("Observer", "Step", "Stop"),
    "registration": ("IncompleteError", "Interrupted", "register"),
    "result": ("Registration",),
    "schedule": ("Schedule",),
    "stack.registration": ("register_stack",),
    "stack.result": ("Stack",),
    "start.doubts": ("Doubt",),
    "start.plan": ("Start",),
    "transform.formats.files": ("read_transform",),
    "verdict.judge": ("Status", "Verdict"),
}


def __getattr__(name: str) -> Any:
    """Import on first use what needs torch, so that `drmime --help` answers at once."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"drmime.{module}"), name)
    raise AttributeError(f"module 'drmime' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names, imported already or not."""
    return sorted({*globals(), *__all__})

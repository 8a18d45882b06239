"""drmime: align images that look nothing alike, by neural mutual information over Lie groups."""

from drmime.errors import InputError
from drmime.optimise import Observer, Step, Stop
from drmime.registration import Interrupted, register
from drmime.result import Registration
from drmime.version import __version__

__all__ = ["InputError", "Interrupted", "Observer", "Registration", "Step", "Stop", "__version__", "register"]

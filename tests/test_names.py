"""The names that are checked before torch is imported are those of the parts."""

from drmime.initialise import INITIALISERS
from drmime.lie import GROUPS
from drmime.metrics import METRICS
from drmime.names import NAMES
from drmime.resample import ORDERS
from drmime.sampling import SAMPLERS


def test_they_are_those_of_the_dicts() -> None:
    parts = {
        "group": {*GROUPS},
        "metric": {*METRICS},
        "sampler": {*SAMPLERS},
        "initialiser": {"auto", "given", "none", *INITIALISERS},
        "interpolation": {*ORDERS},
    }
    assert {kind: {*names} for kind, names in NAMES.items()} == parts

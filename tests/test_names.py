"""The names that are checked before torch is imported are those of the parts."""

from drmime.compare import METRICS
from drmime.geometry.lie import GROUPS
from drmime.names import NAMES
from drmime.sampling import SAMPLERS
from drmime.start.propose import INITIALISERS
from drmime.transform.warp import ORDERS


def test_they_are_those_of_the_dicts() -> None:
    parts = {
        "group": {*GROUPS},
        "metric": {*METRICS},
        "sampler": {*SAMPLERS},
        "initialiser": {"auto", "given", "none", *INITIALISERS},
        "interpolation": {*ORDERS},
    }
    assert {kind: {*names} for kind, names in NAMES.items()} == parts

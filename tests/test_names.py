"""The names that are checked before torch is imported are those of the parts."""

from drmime.compare import METRICS
from drmime.names import NAMES
from drmime.sampling import SAMPLERS
from drmime.start.propose import PROPOSERS
from drmime.transform import TRANSFORMS
from drmime.transform.warp import ORDERS


def test_they_are_those_of_the_dicts() -> None:
    parts = {
        "transform": {*TRANSFORMS},
        "metric": {*METRICS},
        "sampler": {*SAMPLERS},
        "start": {"auto", "none", *PROPOSERS},
        "interpolation": {*ORDERS},
    }
    assert {kind: {*names} for kind, names in NAMES.items()} == parts

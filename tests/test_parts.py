"""Every named part can be made, and names are known without importing torch."""

import subprocess
import sys

import pytest

from drmime import parts
from drmime.registry import Parts

TABLES = {name: table for name, table in vars(parts).items() if isinstance(table, Parts)}


@pytest.mark.parametrize(("table", "name"), [(table, name) for table, names in TABLES.items() for name in names])
def test_every_part_is_where_its_table_says(table: str, name: str) -> None:
    assert callable(TABLES[table][name])


def test_a_table_is_a_mapping() -> None:
    table = Parts({"one": "math:sin", "other": "math:cos"})
    assert (list(table), len(table), "one" in table, "none" in table) == (["one", "other"], 2, True, False)
    assert table["one"](0.0) == 0
    with pytest.raises(KeyError):
        table["none"]


def test_names_are_known_without_torch() -> None:
    code = "import sys, drmime.parts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0

"""Reports: tables and an HTML page from the rows in a run's folder, which may be incomplete."""

from pathlib import Path

from drmime.errors import InputError
from drmime.lab.experiment import results

try:
    from drmime.lab.report import page, tables
except ImportError as error:
    raise InputError(f"tables and page of a run need more packages: pip install 'drmime[report]' ({error})") from error

__all__ = ["write"]


def write(folder: Path) -> tuple[str, int, list[str]]:
    """Write tables and page to `folder`. -> the summary in Markdown, the number of failed runs, why rows cannot be read

    Raises:
        InputError: the folder holds no run or cannot be written.
    """
    found = results(folder)
    rows, methods, judging = found.rows, found.methods, found.report
    tables.write(rows, folder, judging.reference, judging.threshold, methods)
    page.write(rows, folder, judging.title, judging.reference, judging.threshold, methods)
    return (folder / "summary.md").read_text(encoding="utf-8"), sum(bool(row.error) for row in rows), found.unreadable

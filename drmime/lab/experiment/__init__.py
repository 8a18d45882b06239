"""Experiments: run methods on pairs with seeds as a YAML file states, and save each result at once as a row (a JSON file)."""

import json
import os
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

from drmime import saved
from drmime.cluster import cluster
from drmime.errors import InputError, number, shown
from drmime.image.io import sweep, write_text
from drmime.lab.experiment import rows
from drmime.lab.experiment.config import Experiment, Judging, load, schema
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.runner import finished, path, perform, threads
from drmime.lab.experiment.task import Outputs, Task

__all__ = ["Experiment", "Judging", "Outputs", "Results", "Row", "Task"]
__all__ += ["example", "finished", "load", "path", "results", "run", "schema"]

INDEX = "experiment.json"  # in a run's folder: the names of its rows, in order, and the settings of the report


def run(experiment: Experiment, workers: int = 1, scheduler: str = "", retry: bool = False, batch: int = 1) -> list[Row]:
    """Run the tasks that are not finished yet, and return the rows of all tasks.

    Args:
        experiment: as returned by `load`.
        workers: processes on this machine, which share its cores.
        scheduler: the address of a Dask scheduler whose workers run the tasks instead, with one core each; "" for none.
        retry: whether to run failed tasks again.
        batch: the largest number of pairs that a method of drmime registers together; the next ones are read meanwhile.

    Raises:
        InputError: rows cannot be written, or the scheduler cannot be reached or has no workers.
    """
    tasks = experiment.tasks(1 if scheduler else max(1, _cores() // workers))
    folder = Path(experiment.outputs.folder)
    sweep(folder, below=True)
    index = {
        "report": asdict(replace(experiment.report, title=rows.without(experiment.report.title, experiment.hidden))),
        "methods": list(experiment.methods),
        "configuration": experiment.text,
        "rows": [task.name for task in tasks],
    }
    write_text(folder / INDEX, json.dumps(index, indent=1))
    with cluster(scheduler) if scheduler else threads(workers) as (executor, count):
        perform(tasks, executor, count, experiment.timeout, retry, experiment.hidden, batch)
    return results(folder).rows


@dataclass(frozen=True)
class Results:
    """The results of a run, which need not be finished."""

    rows: list[Row]
    methods: list[str]  # their names, in order
    report: Judging
    unreadable: list[str]  # for each row that exists but cannot be read, the reason


def results(folder: Path) -> Results:
    """Read the results of the last run in a folder.

    Raises:
        InputError: the folder holds no run, or its list of rows cannot be read.
    """
    if not os.path.isfile(folder / INDEX):
        raise InputError(f"{folder}: expected the folder of 'drmime run', with {INDEX} in it")
    what = "the list of rows of 'drmime run'"
    judging = {"title": str, "reference": str, "threshold": float}
    index = saved.read(folder / INDEX, what, {"rows": [str], "methods": [str], "report": judging})
    number(f"{folder / INDEX}: report.threshold", index["report"]["threshold"], 0)
    found, unreadable = [], []
    for name in index["rows"]:
        path = folder / "rows" / f"{name}.json"
        if ".." in path.parts or Path(name).is_absolute():
            raise InputError(f"{folder / INDEX}: rows: expected names below the folder, got {shown(name)}")
        try:
            found.append(rows.read(path))
        except InputError as error:
            unreadable.append(str(error))
    return Results([row for row in found if row is not None], index["methods"], Judging(**index["report"]), unreadable)


def _cores() -> int:
    """The number of cores that this process may use; all cores of the machine where the system does not state it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def example() -> str:
    """An example configuration in YAML, with comments on every key."""
    return (resources.files("drmime.lab.experiment") / "example.yaml").read_text(encoding="utf-8")

"""Experiments: methods on pairs with seeds, from a YAML file to rows that are never lost. `report` makes pages of them."""

import json
import os
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path

from drmime import saved
from drmime.errors import InputError, number, shown
from drmime.image.io import sweep, write_text
from drmime.lab.experiment import rows
from drmime.lab.experiment.config import Experiment, Judging, load, schema
from drmime.lab.experiment.rows import Row
from drmime.lab.experiment.runner import cluster, finished, path, perform, threads
from drmime.lab.experiment.task import Outputs, Task

__all__ = ["Experiment", "Judging", "Outputs", "Results", "Row", "Task"]
__all__ += ["example", "finished", "load", "path", "results", "run", "schema"]

INDEX = "experiment.json"  # in a run's folder: what its rows are, in order, and how to judge them


def run(experiment: Experiment, workers: int = 1, scheduler: str = "", retry: bool = False) -> list[Row]:
    """Run what has not been run yet, and give the rows of all, as `results` does.

    Args:
        experiment: of `load`.
        workers: processes on this machine, which share its cores.
        scheduler: the address of a Dask scheduler, whose workers run the tasks instead, each with one core.
        retry: whether to run again what failed before.

    Raises:
        InputError: the dataset cannot be listed, rows cannot be written, or there is no such scheduler.
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
        perform(tasks, executor, count, experiment.timeout, retry, experiment.hidden)
    return results(folder).rows


@dataclass(frozen=True)
class Results:
    """What there is of a run, finished or not."""

    rows: list[Row]
    methods: list[str]  # their names, in order
    report: Judging
    unreadable: list[str]  # why rows that are there cannot be read, in sentences


def results(folder: Path) -> Results:
    """What there is of the last run in a folder.

    Raises:
        InputError: there is no run, or its list of rows cannot be read.
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
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def example() -> str:
    """A configuration to begin from, every key explained."""
    return (resources.files("drmime.lab.experiment") / "example.yaml").read_text(encoding="utf-8")

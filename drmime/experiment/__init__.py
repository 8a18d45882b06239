"""Experiments: methods on pairs with seeds, from a YAML file to rows that are never lost. `report` makes pages of them."""

import json
import os
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from drmime.errors import InputError
from drmime.experiment import rows
from drmime.experiment.config import Experiment, Judging, load, schema
from drmime.experiment.rows import Row
from drmime.experiment.runner import cluster, finished, path, perform, threads
from drmime.experiment.task import Outputs, Task
from drmime.io import sweep, write_text

__all__ = ["Experiment", "Judging", "Outputs", "Row", "Task", "example", "finished", "load", "path", "results", "run", "schema"]

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
    sweep(folder)
    index = {
        "report": asdict(experiment.report),
        "methods": list(experiment.methods),
        "configuration": experiment.text,
        "rows": [task.name for task in tasks],
    }
    write_text(folder / INDEX, json.dumps(index, indent=1))
    with cluster(scheduler) if scheduler else threads(workers) as (executor, count):
        perform(tasks, executor, count, experiment.timeout, retry)
    return results(folder)[0]


def results(folder: Path) -> tuple[list[Row], list[str], Judging]:
    """What there is of the last run in a folder, finished or not: rows, the names of its methods, and how to judge.

    Raises:
        InputError: there is no run, or its list of rows cannot be read.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        found = [rows.read(folder / "rows" / f"{name}.json") for name in index["rows"]]
        return [row for row in found if row is not None], [str(name) for name in index["methods"]], Judging(**index["report"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder}: expected the folder of 'drmime run', with {INDEX} in it ({error})") from error


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def example() -> str:
    """A configuration to begin from, every key explained."""
    return (resources.files("drmime.experiment") / "example.yaml").read_text(encoding="utf-8")

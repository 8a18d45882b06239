"""The commands that run experiments: `run`, `report`, `config`."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from drmime.commands.base import Report, writable
from drmime.errors import whole
from drmime.lab import experiment


def run(args: Namespace) -> Report:
    """Run an experiment; its tables and page are made from the rows that exist when it ends."""
    from drmime.lab.report import write  # before anything runs: its packages are optional

    if args.out is not None:
        args.set.append(("outputs.folder", str(args.out)))
    plan = experiment.load(args.config, args.set, args.allow_code)
    workers, batch = whole("--workers", args.workers, 1), whole("--batch", args.batch, 1)
    folder = Path(plan.outputs.folder)
    if args.dry_run:
        tasks, state = plan.tasks(), lambda task: "done" if experiment.finished(task, args.retry) else "to do"
        lines = [f"{task.method}  {task.pair.name}  seed {task.seed}  {state(task)}" for task in tasks]
        return Report("\n".join([*lines, f"{len(tasks)} runs, results in {folder}"]))
    writable(folder)
    try:
        experiment.run(plan, workers, args.scheduler, args.retry, batch)
        return _run_report(folder, *write(folder))
    except KeyboardInterrupt:
        kept = "interrupted, finished rows are kept; the same command goes on from here"
        return Report(_run_report(folder, *write(folder)).text, kept, 130)


def report(args: Namespace) -> Report:
    """Rebuild the tables and the page of a run."""
    from drmime.lab.report import write

    return _run_report(args.folder, *write(args.folder))


def _run_report(folder: Path, text: str, failed: int, unreadable: Sequence[str]) -> Report:
    lines = [text, f"report: {folder / 'report.html'}"]
    if (logs := folder / "tensorboard").is_dir():
        lines.append(f"curves: tensorboard --logdir {logs}")
    problems = [f"{failed} runs failed; the report says why, and --retry runs them again"] if failed else []
    if unreadable:
        problems.append(f"{len(unreadable)} rows cannot be read and are left out; the first: {unreadable[0]}")
    return Report("\n".join(lines), "; ".join(problems), int(bool(problems)))


def config(args: Namespace) -> Report:
    """Print an example or the JSON Schema of an experiment file."""
    return Report(json.dumps(experiment.schema(), indent=2) if args.schema else experiment.example())

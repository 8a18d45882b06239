"""How often `register` with its defaults aligns two images, whatever the start: real pairs, as they are and moved.

    python experiments/any_start.py --data ../shared/data --jobs 4 --out tables.md --csv cases.csv
    python experiments/any_start.py --tables turned --limit 20 --methods drmime elastix sitk start affine-fit --set steps=300

- landmarks: pairs as they come. The error is the median over the landmarks.
- turned: the same, the moving image turned by 0 to 360 degrees and shifted by up to 10 % of each side on black, uncut.
- aligned: pairs that overlay as they are, the moving image under a known affine map; or the fixed image itself under one, its
  intensities through a map that is not monotone ("same content"). The error is the mean over a grid of points that stay inside.
- crops: of the moving image a part of half its area, turned by 0 to 360 degrees on black; the landmarks in that part.
- volumes: any rotation, a shift of up to 30 % of each side; group "rigid". The error is the mean over the foreground inside.

Errors are shares of the diagonal of the moving image or of its part, before the canvas grew; below 1 % counts as aligned. A run
that ends early counts with the transform that it ended at; one that raises is not aligned. "start" is centre on centre;
"affine-fit" the affine map fitted to the landmarks by least squares; other methods are those of benchmarks/methods.py, on gray.
"""

import argparse
import csv
import itertools
import math
import multiprocessing
import os
import signal
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.spatial.transform import Rotation

from drmime import register
from drmime.grid import Grid
from drmime.io import read_image, read_landmarks
from drmime.resample import resample

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from accuracy import Problem, markdown
from methods import METHODS, Mapper, gray

TABLES = ("landmarks", "turned", "aligned", "crops", "volumes")
KINDS = ("same content", "real modality")
SIZES = {"small": (5, 0.05, 0.05), "medium": (15, 0.1, 0.1), "large": (180, 0.3, 0.15)}  # up to: degrees, shift in sides, scale
VOLUMES = ("stroke3d", "spm3d", "openms3d")
PEERS = METHODS | {"sitk": METHODS["simpleitk"]}
FREE = ("start", "affine-fit")  # take no time
ALIGNED = 0.01  # of the diagonal
FEWEST = 5  # landmarks in a crop
LABELS = ("table", "kind", "size", "trial", "domain", "dataset", "pair")
FOUND = ("aligned", "error", "pixels", "seconds", "stop", "start", "score", "note")  # error in diagonals
Row = dict[str, Any]  # of pairs.csv, with what is done to the pair (a case) and what was found


def cases(data: Path, table: str, trials: int) -> Iterator[Row]:
    for pair in csv.DictReader((data / "pairs.csv").read_text(encoding="utf-8").splitlines()):
        flat, aligned = pair["ndim"] == "2", pair["already_aligned"] == "1"
        marked = flat and bool(pair["fixed_landmarks"]) and not aligned and pair["dataset"] != "superfusion"
        wanted = marked and (table != "crops" or pair["domain"] in ("histology", "remote"))
        if table in ("aligned", "volumes"):
            wanted = flat and aligned if table == "aligned" else pair["dataset"] in VOLUMES
        more = (KINDS, SIZES, range(trials)) if table == "aligned" else ([""], [""], range(trials if table == "volumes" else 1))
        for kind, size, trial in itertools.product(*more) if wanted else []:
            yield pair | {"table": table, "kind": kind, "size": size, "trial": trial}


def problem(data: Path, case: Row, seed: int) -> Problem:
    fixed, moving = (read_image(data / case[role])[0] for role in ("fixed", "moving"))
    random = np.random.default_rng([seed, zlib.crc32("/".join(str(case[name]) for name in LABELS).encode())])
    if case["table"] in ("aligned", "volumes"):
        return moved(fixed, recoloured(fixed) if case["kind"] == KINDS[0] else moving, case["size"], random)
    points, targets = (read_landmarks(data / case[f"{role}_landmarks"]) for role in ("fixed", "moving"))
    angle, sides = random.uniform(0, 2 * np.pi), sides_of(moving)
    if case["table"] == "crops":
        part = np.rint(sides * math.sqrt(0.5)).astype(int)
        x, y = random.integers(0, sides - part + 1)
        moving, sides = moving[y : y + part[1], x : x + part[0]], part
        inside = within(targets := targets - (x, y), sides)
        points, targets = points[inside], targets[inside]
    if case["table"] != "landmarks":
        moving, matrix = turned(moving, angle, sides * random.uniform(-0.1, 0.1, 2) * (case["table"] == "turned"))
        targets = mapped(matrix, targets)
    return Problem(fixed, moving, points, targets, float(np.hypot(*sides)))


def recoloured(pixels: np.ndarray) -> np.ndarray:
    """Gray, inverted, and through a map of intensities that is not monotone; 0 to 255."""
    low, high = np.percentile(gray(pixels), (0.5, 99.5))
    grays = np.clip((gray(pixels) - low) / max(high - low, 1e-6), 0, 1)
    return np.rint(127.5 - 127.5 * np.sin(2.5 * np.pi * grays)).astype(np.uint8)


def turned(pixels: np.ndarray, angle: float, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image on a canvas that holds all of it, its centre `shift` from the middle; and new from old pixels."""
    linear = Rotation.from_euler("z", angle).as_matrix()[:2, :2]
    canvas = np.ceil(np.abs(linear) @ sides_of(pixels) + 2 * np.abs(shift)).astype(int)
    matrix = about((sides_of(pixels) - 1) / 2, (canvas - 1) / 2 + shift, linear)
    return resampled(pixels, matrix, canvas[::-1].tolist()), matrix


def moved(fixed: np.ndarray, moving: np.ndarray, size: str, random: np.random.Generator) -> Problem:
    """Two aligned images, the second moved within its frame; volumes by any rotation."""
    (degrees, shift, scale), sides = SIZES[size or "large"], sides_of(moving, 2 if size else 3)
    if not size:
        fixed, moving = fixed.astype(np.float32), moving.astype(np.float32)
        linear = Rotation.from_quat(random.normal(size=4)).as_matrix()  # uniform over all rotations
        points = np.argwhere(fixed > fixed.mean())[::97, ::-1].astype(float)
    else:
        turn = Rotation.from_euler("z", random.uniform(-degrees, degrees), degrees=True).as_matrix()[:2, :2]
        linear = turn @ np.diag(random.uniform(1 - scale, 1 + scale, 2))
        points = (np.indices((20, 20)).reshape(2, -1).T + 0.5) / 20 * sides_of(fixed) - 0.5
    matrix = about((sides - 1) / 2, (sides - 1) / 2 + sides * random.uniform(-shift, shift, len(sides)), linear)
    inside = within(targets := mapped(matrix, points), sides)
    moving, options = resampled(moving, matrix, sides[::-1].tolist()), {} if size else {"group": "rigid"}
    return Problem(fixed, moving, points[inside], targets[inside], float(np.linalg.norm(sides)), np.mean, options)


def resampled(pixels: np.ndarray, matrix: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """`matrix`: new from old pixels; black outside."""
    grids = Grid.regular(pixels.shape[: len(shape)]), Grid.regular(shape)
    return resample(pixels, np.linalg.inv(matrix), *grids, channel_axis=-1 if pixels.ndim > len(shape) else None)


def about(old: np.ndarray, new: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """The homogeneous matrix of x -> linear (x - old) + new."""
    matrix = np.eye(len(old) + 1)
    matrix[:-1, :-1], matrix[:-1, -1] = linear, new - linear @ old
    return matrix


def mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def within(points: np.ndarray, sides: np.ndarray) -> np.ndarray:
    return np.all((points >= -0.5) & (points <= sides - 0.5), axis=1)


def sides_of(pixels: np.ndarray, ndim: int = 2) -> np.ndarray:
    return np.array(pixels.shape[:ndim][::-1])


def ready(method: str, what: Problem, seed: int, overrides: Row) -> Callable[[], tuple[Mapper, Row]]:
    """What is timed: a function that gives the map it found, and what there is to tell about it."""
    ndim = what.points.shape[1]
    shift = (sides_of(what.moving, ndim) - sides_of(what.fixed, ndim)) / 2
    if method == "start":
        return lambda: (lambda points: points + shift, {})
    if method == "affine-fit":
        return lambda: (lambda _: what.affine_fit(), {})
    if method in PEERS:
        run = PEERS[method](gray(what.fixed).astype(np.float32), gray(what.moving).astype(np.float32), shift, 1)
        return lambda: (run(seed), {})

    def ours() -> tuple[Mapper, Row]:
        result = register(what.fixed, what.moving, **{"seed": seed, "device": "cpu"} | what.options | overrides)
        best, note = result.candidates[0], " ".join(result.notes)
        return result.to_moving, {"stop": result.stop.name, "start": best.source, "score": round(best.score, 2), "note": note}

    return ours


def one(data: Path, case: Row, methods: Sequence[str], seed: int, overrides: Row) -> list[Row]:
    """A row for every method; whatever is raised is told in its note."""
    rows = []
    for method in methods:
        found: Row = {"method": method, "aligned": "skipped", "note": ""}
        try:
            what = problem(data, case, seed)
            if case["table"] != "crops" or len(what.points) >= FEWEST:
                run = ready(method, what, seed, overrides)
                began = time.perf_counter()
                mapper, told = run()
                seconds, pixels = time.perf_counter() - began, what.error(mapper(what.points))
                found |= {"aligned": int(pixels < ALIGNED * what.diagonal), "error": round(pixels / what.diagonal, 5)}
                found |= {"pixels": round(pixels, 3), "seconds": round(seconds, 2)} | told
        except Exception as error:
            found |= failure(error)
        rows.append(case | found)
    return rows


def failure(error: BaseException) -> Row:
    return {"aligned": "error", "error": math.inf, "note": " ".join(f"{type(error).__name__}: {error}".split())}


def begin() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle


def measure(tasks: Sequence[Row], options: argparse.Namespace) -> list[Row]:
    """Rows of every case, or of those finished when interrupted; each is written as it comes."""
    overrides = {name: yaml.safe_load(value) for name, _, value in (item.partition("=") for item in options.set)}
    spawn, runs, rows = multiprocessing.get_context("spawn"), {}, list[Row]()
    pool = ProcessPoolExecutor(options.jobs, mp_context=spawn, initializer=begin)
    for case in tasks:
        methods = [name for name in options.methods if case["ndim"] == "2" or name in ("drmime", "start")]
        runs[pool.submit(one, options.data, case, methods, options.seed, overrides)] = case, methods
    with (options.csv or Path(os.devnull)).open("a", 1, newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*LABELS, "method", *FOUND, "seed", "set"), extrasaction="ignore")
        if not file.tell():
            writer.writeheader()
        try:
            for done, run in enumerate(as_completed(runs), 1):
                case, methods = runs[run]
                died = run.exception()  # the worker
                rows += (found := [case | {"method": name} | failure(died) for name in methods] if died else run.result())
                writer.writerows(row | {"seed": options.seed, "set": " ".join(options.set)} for row in found)
                if sys.stderr.isatty():
                    print(f"\r{done} of {len(runs)}", end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("\ninterrupted: the tables hold what was finished", file=sys.stderr)
            for worker in multiprocessing.active_children():
                worker.terminate()
    return rows


def table(name: str, rows: Sequence[Row], methods: Sequence[str]) -> str:
    """A line for each group of cases and one for all of them, the columns of one method after those of another."""
    part, lines = "dataset" if name == "volumes" else "domain", []
    for kind, size in itertools.product(KINDS, SIZES) if name == "aligned" else [("", "")]:
        these = [row for row in rows if (row["kind"], row["size"]) == (kind, size)]
        for label in [*(sorted({row[part] for row in these}) if kind != KINDS[0] else []), "all"]:
            group = [row for row in these if label in (row[part], "all")]
            lines.append(({"case": f"{kind}, {size}"} if kind else {}) | {part: label} | cells(name, group, methods))
    skipped = sum(row["aligned"] == "skipped" for row in rows) // len(methods)
    note = f"\n\nLeft out, with fewer than {FEWEST} landmarks in the crop: {skipped} pairs." if skipped else ""
    return f"## {name}\n\n" + markdown([list(lines[0]), *(list(line.values()) for line in lines)]) + note


def cells(name: str, rows: Sequence[Row], methods: Sequence[str]) -> dict[str, str]:
    out, count_of = {}, "runs" if name in ("aligned", "volumes") else "pairs"
    for method in methods:
        judged = [row for row in rows if row["method"] == method and row["aligned"] != "skipped"]
        count = sum(row["aligned"] == 1 for row in judged)
        raised = f", {bad} raised" if (bad := sum(row["aligned"] == "error" for row in judged)) else ""
        out |= {count_of: str(len(judged)), f"{method}: aligned": f"{count} ({count / max(len(judged), 1):.0%}){raised}"}
        digits = {"error": 4} | ({"voxels": 2} if name == "volumes" else {}) | ({} if method in FREE else {"seconds": 1})
        for column, places in digits.items():
            values = [row[key] for row in judged if (key := column.replace("voxels", "pixels")) in row]
            out[f"{method}: {column}"] = f"{statistics.median(values):.{places}f}" if values else "-"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--methods", nargs="+", choices=("drmime", *FREE, *PEERS), default=["drmime"], help="peers: 2-D only")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=YAML", help="an option of `register`; repeatable")
    parser.add_argument("--trials", type=int, default=2, help="of each aligned pair and volume")
    parser.add_argument("--limit", type=int, help="cases of each table, evenly taken from all")
    parser.add_argument("--seed", type=int, default=0, help="of the motions and of `register`")
    parser.add_argument("--jobs", type=int, default=4, help="processes, each with one thread")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--csv", type=Path, help="add a row for each case and method to this file")
    options = parser.parse_args()
    tasks = []
    for name in options.tables:
        every = list(cases(options.data, name, options.trials))
        tasks += [every[int(at)] for at in np.linspace(0, len(every) - 1, min(options.limit or len(every), len(every)))]
    rows, texts = measure(tasks, options), []
    for name in options.tables:
        these = [row for row in rows if row["table"] == name]
        done = {row["method"] for row in these}
        texts += [table(name, these, [method for method in options.methods if method in done])] if done else []
    print("\n\n".join(texts))
    if options.out:
        options.out.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Small made-up folders in the layouts of the datasets, each with what it should give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drmime.image.io import write_image

POINTS = np.array([[3.0, 4.0], [20.0, 5.0], [8.5, 15.25], [25.0, 17.0], [14.0, 9.0], [5.0, 12.0]])  # of picture(), x first
OTHERS = np.add(POINTS, (1, 2))  # where FIRE says that they lie in the other image
SHAPE = (24, 33)


def picture(path: Path, shape: Sequence[int] = SHAPE, colours: int = 0) -> Path:
    """An image of noise, the same for the same name."""
    random = np.random.default_rng([ord(letter) for letter in path.name])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, random.integers(0, 256, (*shape, colours) if colours else shape).astype(np.uint8))
    return path


def landmarks(path: Path, points: np.ndarray = POINTS, names: str = "xyz") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join(names[: points.shape[1]]), *(",".join(map(str, point)) for point in points.tolist())]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def table(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


@dataclass(frozen=True)
class Tree:
    """A specification of a dataset and what it should give."""

    spec: dict[str, Any]
    names: list[str]
    domains: list[str]
    points: list[int | None] = field(default_factory=list)  # how many each pair has


def pairs_tree(root: Path) -> Tree:
    for name in ("a", "b", "c"):
        picture(root / f"{name}.png")
        landmarks(root / f"{name}.csv")
    np.savetxt(root / "shift.txt", [[1, 0, 3], [0, 1, 0], [0, 0, 1]])
    text = (
        "dataset,pair,domain,fixed,moving,fixed_landmarks,moving_landmarks,fixed_to_moving,already_aligned,note\n"
        'kidney,one,histology,a.png,b.png,a.csv,b.csv,,0,"two, stains"\n'
        "kidney,two,histology,a.png,c.png,,,shift.txt,0,\n"
        "eye,one,retina,b.png,c.png,,,,1,\n"
        ",,,c.png,a.png,,,,,\n"
    )
    # a shift of 3 in 33 pixels: of the 20 columns of the regular grid 2 leave the image
    names, counts = ["kidney/one", "kidney/two", "eye/one", "c-a"], [6, 18 * 20, 20 * 20, None]
    return Tree({"name": "pairs", "file": table(root / "p.csv", text)}, names, ["histology", "histology", "retina", ""], counts)


def birl_rows(root: Path) -> str:
    """Two subjects of one tissue, with files of the same names, and one of another."""
    lines = [",Source image,Source landmarks,Target image,Target landmarks,status,Image size [pixels]"]
    for number, (folder, status) in enumerate((("COAD_01", "training"), ("COAD_02", "training"), ("kidney_", "evaluation"))):
        for name in ("S1", "S2"):
            picture(root / "images" / folder / "scale-25pc" / f"{name}.png")
            if (status, name) != ("evaluation", "S2"):
                landmarks(root / "landmarks" / folder / "scale-25pc" / f"{name}.csv", names="XYZ")
        side = f"{folder}/scale-25pc/S"
        lines.append(f'{number},{side}1.png,{side}1.csv,{side}2.png,{side}2.csv,{status},"(24, 33)"')
    return "\n".join(lines)


def anhir_tree(root: Path) -> Tree:
    table(root / "dataset_medium.csv", birl_rows(root))
    return Tree({"name": "anhir", "folder": str(root)}, ["COAD_01/S2-S1", "COAD_02/S2-S1"], ["COAD"] * 2, [6, 6])


def birl_tree(root: Path) -> Tree:
    picture(root / "data" / "rat" / "he.png")
    picture(root / "data" / "pan.png", (30, 40))
    for name in ("rat/he", "pan"):
        landmarks(root / "data" / f"{name}.csv", names="XYZ")
    text = "Target image,Source image,Target landmarks,Source landmarks\n"
    text += "rat/he.png,pan.png,rat/he.csv,pan.csv\npan.png,rat/he.png,pan.csv,rat/he.csv\n"
    spec = {"name": "birl", "file": table(root / "b.csv", text), "root": str(root / "data")}
    return Tree(spec, ["rat/he-pan", "pan-he"], ["rat", ""], [6, 6])


def fire_tree(root: Path) -> Tree:
    for eye in ("S02", "A01", "P10"):
        for side in (1, 2):
            picture(root / "Images" / f"{eye}_{side}.jpg", colours=3)
        (root / "Ground Truth").mkdir(exist_ok=True)
        np.savetxt(root / "Ground Truth" / f"control_points_{eye}_1_2.txt", np.c_[POINTS, OTHERS], fmt="%.3f")
    (root / "Images" / "notes.txt").touch()
    return Tree({"name": "fire", "folder": str(root)}, ["A01", "P10", "S02"], ["A", "P", "S"], [6, 6, 6])


def slices(root: Path) -> str:
    for name in ("s10.png", "s2.tif", "s1.png"):
        picture(root / name)
    for name in ("s1", "s10"):
        landmarks(root / f"{name}.csv")
    (root / ".hidden.png").touch()
    (root / "below.png").mkdir()
    return str(root)


def folder_tree(root: Path) -> Tree:
    return Tree({"name": "folder", "folder": slices(root)}, ["s1-s2", "s1-s10"], [""] * 2, [None, 6])


def stack_tree(root: Path) -> Tree:
    return Tree({"name": "stack", "folder": slices(root)}, ["s1-s2", "s2-s10"], [""] * 2, [None, None])


def synthetic_tree(root: Path) -> Tree:
    inner = pairs_tree(root).spec | {"where": {"dataset": "kidney"}, "skip": {"pair": "two"}}
    names = [f"kidney/one/{motion}-{number}" for motion in ("turned", "large") for number in range(2)]
    recoloured = {"name": "synthetic", "of": inner, "motions": ["turned", "large"], "repeats": 2, "recoloured": True}
    return Tree(recoloured, names, ["histology"] * 4)


TREES: dict[str, Callable[[Path], Tree]] = {
    "pairs": pairs_tree,
    "birl": birl_tree,
    "anhir": anhir_tree,
    "fire": fire_tree,
    "folder": folder_tree,
    "stack": stack_tree,
    "synthetic": synthetic_tree,
}

"""The arguments of the commands that align images: `demo`, `register`, `stack`, `stitch`."""

from pathlib import Path
from typing import Any

from drmime.arguments.values import UNSET, axes, command, lengths, names, setting, sides, value
from drmime.parts import INTERPOLATIONS


def add_demo(commands: Any) -> None:
    parser = command(commands, "demo", "align a real pair whose answer is known", "  drmime demo --out out/demo")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="folder for results (out/demo)")
    parser.add_argument("--seed", type=int, default=UNSET, metavar="N", help="seed of every random number (0)")
    parser.add_argument("--device", type=value, default=UNSET, help="as in 'drmime register'")
    parser.add_argument("--metric", type=value, default=UNSET, help="as in 'drmime register' (mine)")
    parser.add_argument("--levels", type=int, default=UNSET, metavar="N", help="levels of the pyramid (4)")


def add_register(commands: Any) -> None:
    example = """\
  drmime register fixed.png moving.png --out out/
  drmime register mr.nii.gz ct.nii.gz --out out/ --transform rigid --metric '{name: mine, hidden: 64}'
  drmime register a.tif b.tif --out out/ --start other/transform.json --set schedule.steps=250 --set device.threads=2"""
    parser = command(commands, "register", "align the image MOVING to the image FIXED", example)
    parser.add_argument("fixed", metavar="FIXED", type=Path)
    parser.add_argument("moving", metavar="MOVING", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for transform, warped image, overlay")

    add = parser.add_argument_group("registration (defaults are those of drmime.register)").add_argument
    _add_options(add)
    start = f"{names('start')}, a list of these, a file with a matrix (.txt) or a saved transform (.json)"
    add("--start", type=value, default=UNSET, help=f"{start}, or '{{given: mass, propose: auto}}'")
    _add_images(parser.add_argument_group("images").add_argument)
    add = parser.add_argument_group("output").add_argument
    add("--interpolation", default="linear", metavar="HOW", help=f"for the warped image: {', '.join(INTERPOLATIONS)} (linear)")
    add(
        "--fail-on",
        default="failed",
        metavar="VERDICT",
        help="exit status 1 from this verdict on: doubtful or failed (failed)",
    )
    add("--tensorboard", nargs="?", type=Path, const=True, metavar="DIR", help="curves and pictures (OUT/tensorboard)")


def add_stack(commands: Any) -> None:
    example = """\
  drmime stack sections/*.tif --out out/ --transform rigid
  drmime stack sections/*.tif --out out/ --transform rigid+velocity
  drmime stack frames/*.png --out out/ --transform translation --reference first
  drmime stack movie.tif --out out/ --transform translation --reference first --reference-channel 0"""
    parser = command(commands, "stack", "align many images, such as serial sections, or frames to one of them", example)
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="two or more in order, or one file with frames")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for transforms, aligned images, pictures"
    )
    parser.add_argument(
        "--reference", type=value, default=UNSET, help="auto (best connected), first, last, previous, mean, or a number"
    )
    parser.add_argument("--order", default=UNSET, metavar="ORDER", help="given, or auto to find it from all pairs (given)")
    parser.add_argument("--reach", type=int, default=UNSET, metavar="N", help="neighbours on each side that are registered (2)")
    how = "search (any modality), correlation (one modality, small motions; fast), auto (correlation for one file with frames)"
    parser.add_argument("--pairs", default=UNSET, metavar="HOW", help=how)
    parser.add_argument("--time-axis", type=axes, default=UNSET, metavar="AXIS", help="of one file with frames (auto: its own)")
    movie = "gif or mp4: format of the movie (gif; of one file with frames none)"
    parser.add_argument("--movie", default=None, metavar="FORMAT", help=movie)
    add = parser.add_argument_group("registration (defaults are those of drmime.register)").add_argument
    _add_options(add, "drmime.register_stack")
    add("--channel-axis", type=axes, default=UNSET, metavar="AXIS", help="auto, none, or the number of an axis")
    channel = "the one channel to compare, or none for all; every channel is aligned"
    add("--channel", "--reference-channel", type=axes, default=UNSET, metavar="N", help=channel)
    add("--nan", default=UNSET, help="error, or mask to leave out pixels that are not finite")
    parser.add_argument("--interpolation", default="linear", metavar="HOW", help=f"{', '.join(INTERPOLATIONS)} (linear)")


def add_stitch(commands: Any) -> None:
    example = """\
  drmime stitch tiles/*.tif --out out/ --grid 5,5 --overlap 0.1
  drmime stitch tiles/*.tif --out out/ --positions positions.csv
  drmime stitch tiles/*.ome.tif --out out/ --stage"""
    parser = command(commands, "stitch", "put overlapping tiles of one scene together to a mosaic", example)
    parser.add_argument("images", metavar="TILE", type=Path, nargs="+", help="in the order of the layout; two or more")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the mosaic, tables and transforms")
    add = parser.add_argument_group("where tiles are expected (if nothing is given, all pairs are compared)").add_argument
    add("--grid", type=sides, metavar="ROWS,COLUMNS", help="tiles in rows and columns")
    add("--order", default=None, help="of the tiles in --grid: row, snake, column, column-snake (row)")
    add("--overlap", type=float, default=UNSET, metavar="SHARE", help="of neighbours in --grid, by a tile's side (0.1)")
    add(
        "--positions",
        type=Path,
        metavar="FILE",
        help="CSV with columns x,y[,z]: first pixels of the tiles, in their world units",
    )
    add("--stage", action="store_true", help="the positions of the stage that OME-TIFF files state")
    add("--margin", type=float, default=UNSET, metavar="SHARE", help="how far off tiles may lie, by a tile's side (0.1)")
    add = parser.add_argument_group("comparison").add_argument
    add("--transform", default=UNSET, metavar="NAME", help="translation, rigid, similarity or affine (translation)")
    add("--channel-axis", type=axes, default=UNSET, metavar="AXIS", help="auto, none, or the number of an axis")
    add("--channel", type=axes, default=UNSET, metavar="N", help="the one channel to compare, or none for the mean of all")
    add("--nan", default=UNSET, help="error, or mask to leave out pixels that are not finite")
    add("--config", type=Path, metavar="FILE", help="YAML file with options of drmime.stitch; flags override it")
    add = parser.add_argument_group("output").add_argument
    add("--how", default="blend", help="in overlaps: blend, or nearest for the tile whose centre is nearest (blend)")
    add("--interpolation", default="linear", metavar="HOW", help=f"{', '.join(INTERPOLATIONS)} (linear)")


def _add_options(add: Any, function: str = "drmime.register") -> None:
    """Options of `drmime.register` that do not depend on the images; `function` is what --config has options of."""
    own = "'{name: lie, generators: [...]}'"
    add("--transform", type=value, default=UNSET, help=f"{names('transform')}, stages such as affine+velocity, or {own}")
    add("--metric", type=value, default=UNSET, help=f"{names('metric')}, or '{{name: mine, hidden: 64}}'")
    add("--sampler", type=value, default=UNSET, help=f"{names('sampler')}, or '{{name: uniform, points: 2048}}'")
    add("--levels", type=int, default=UNSET, metavar="N", help="levels of the pyramid")
    add("--representation", type=value, default=UNSET, help="a trained model of 'drmime train', or '{name: FILE, use: metric}'")
    add("--schedule", type=value, default=UNSET, help="'{steps: 70, rate: 0.0007, ...}'")
    add("--device", type=value, default=UNSET, help="cpu, cuda, ... (a GPU if there is one), or '{name: cpu, threads: 2}'")
    add("--seed", type=int, default=UNSET, metavar="N", help="seed of every random number")
    add(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one value inside one of these, as in schedule.steps=250",
    )
    add("--config", type=Path, metavar="FILE", help=f"YAML file with options of {function}; flags override it")
    add("--allow-code", action="store_true", help="with --config: import parts given as 'module:attribute'")


def _add_images(add: Any) -> None:
    add("--fixed-mask", default=UNSET, metavar="FILE", help="mask of FIXED; nonzero pixels are used")
    add("--moving-mask", default=UNSET, metavar="FILE", help="mask of MOVING")
    add("--affine-mask", default=UNSET, metavar="FILE", help="mask of FIXED: what a deformation leaves as it is")
    add("--fixed-spacing", type=lengths, default=UNSET, metavar="A,B", help="pixel lengths of FIXED, slowest axis first")
    add("--moving-spacing", type=lengths, default=UNSET, metavar="A,B", help="pixel lengths of MOVING")
    each = "; two for FIXED and MOVING, as in =0,none"
    add("--channel-axis", type=axes, default=UNSET, metavar="AXIS", help=f"auto, none, or the number of an axis{each}")
    add("--channel", type=axes, default=UNSET, metavar="N", help=f"the one channel to compare, or none for all{each}")
    add(
        "--landmarks",
        nargs=2,
        default=None,
        type=Path,
        dest="landmark_files",
        metavar=("FIXED", "MOVING"),
        help="files of corresponding points: their errors are told and written; with --start landmarks they give the start",
    )
    add("--landmark-weight", type=float, metavar="W", help="with --landmarks: the points also pull the map, this much")
    add("--nan", default=UNSET, help="error, or mask to leave out pixels that are not finite")

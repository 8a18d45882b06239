"""The arguments of `drmime warp`, `drmime points`, `drmime convert` and `drmime info`."""

import argparse
from pathlib import Path
from typing import Any

from drmime.arguments.values import UNSET, axes, command, lengths, sides
from drmime.parts import INTERPOLATIONS, LABEL_INTERPOLATIONS, POINT_FORMATS, TRANSFORM_FORMATS


def add_warp(commands: Any) -> None:
    example = """\
  drmime warp out/transform.json channel2.png --out channel2_warped.png
  drmime warp out/transform.json labels.png --labels --out labels_warped.png
  drmime warp out/transform.json channel*.tif --out warped/ --grid union
  drmime warp out/transform.json slide.tif --same-extent --spacing 0.25 --out slide_warped.tif
  drmime warp out/transform.json slide.svs --tiles --out slide_warped.zarr
  drmime warp a_to_b.json --then b_to_c.json c.tif --out c_on_a.tif
  drmime warp elastix/TransformParameters.0.txt moving.nii.gz --fixed fixed.nii.gz --out warped.nii.gz"""
    parser = command(commands, "warp", "warp other images by a saved transform", example)
    _add_transform(parser)
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+", help="images of the moving side")
    out = "file to write; for several images a folder, where each keeps its name"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=out)
    parser.add_argument("--labels", action="store_true", help="label maps: values are never blended")
    how = f"{', '.join(INTERPOLATIONS)} (linear); of labels {' or '.join(LABEL_INTERPOLATIONS)} (nearest)"
    parser.add_argument("--interpolation", default=UNSET, metavar="HOW", help=how)
    parser.add_argument(
        "--fill", type=float, metavar="VALUE", help="value where the image has no pixel (its no-data value, else 0)"
    )
    parser.add_argument("--inverse", action="store_true", help="warp images on the fixed grid to the moving grid")
    several = "auto, none, or a number; several for time and channels, as in =0,1"
    parser.add_argument("--channel-axis", type=axes, default=UNSET, metavar="AXIS", help=several)
    grid = "grid of the result: fixed, union (holds both images), or an image whose grid is taken (fixed)"
    parser.add_argument("--grid", default=UNSET, metavar="GRID", help=grid)
    parser.add_argument("--spacing", type=lengths, default=UNSET, metavar="A,B", help="pixel lengths of the result")
    parser.add_argument("--same-extent", action="store_true", help="images show what MOVING shows, in more or fewer pixels")
    add = parser.add_argument_group("tile by tile, for images larger than memory").add_argument
    add("--tiles", action="store_true", help="write OME-Zarr (.zarr) or pyramidal OME-TIFF (.tif); a killed run goes on")
    add("--workers", type=int, default=UNSET, metavar="N", help="tiles computed at once (one for each core)")
    add("--memory", type=float, default=UNSET, metavar="GIB", help="memory for the tiles that are computed at once (2)")
    add("--scheduler", default=UNSET, metavar="ADDRESS", help="a Dask scheduler whose workers compute the tiles")
    parser.add_argument("--no-antialias", action="store_true", help="do not blur where the result is coarser than the image")


def add_points(commands: Any) -> None:
    example = """\
  drmime points out/transform.json annotations.geojson --out annotations_on_fixed.geojson
  drmime points out/transform.json fixed_landmarks.csv --to moving --out there.csv
  drmime points out/transform.json slide.geojson --moving-shape 40000,50000 --out carried.geojson"""
    parser = command(commands, "points", "carry points and annotations to the other image", example)
    _add_transform(parser)
    what = f"files of points in pixels ({', '.join(POINT_FORMATS)})"
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help=what)
    out = "file to write; for several files a folder, where each keeps its name"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=out)
    parser.add_argument("--to", default="fixed", metavar="SIDE", help="the image to carry them to: fixed or moving (fixed)")
    parser.add_argument("--format", default=None, metavar="FORMAT", help="by default what the contents say")
    shape = "shape, rows first, of the image that the points count pixels of, if it is not the registered one"
    for side in ("fixed", "moving"):
        parser.add_argument(f"--{side}-shape", type=sides, default=None, metavar="A,B", help=shape)


def _add_transform(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "transform_file", metavar="TRANSFORM", type=Path, help="transform.json of 'drmime register', or of another program"
    )
    then = "a registration of the moving image of the first (as FIXED) to another one, and so on; pixels are read once"
    parser.add_argument("--then", type=Path, action="append", default=[], metavar="TRANSFORM", help=then)
    parser.add_argument("--fixed", type=Path, default=None, metavar="IMAGE", help="fixed image, of another program's transform")
    parser.add_argument("--moving", type=Path, default=None, metavar="IMAGE", help="its moving image (the first IMAGE)")


def add_convert(commands: Any) -> None:
    example = """\
  drmime convert out/transform.json itk.tfm
  drmime convert 0GenericAffine.mat elastix/TransformParameters.0.txt --fixed fixed.nii.gz
  drmime convert flirt.mat slicer.tfm --fixed reference.nii.gz --moving input.nii.gz"""
    parser = command(commands, "convert", "convert a transform between the files of programs", example)
    parser.add_argument("transform_file", metavar="FROM", type=Path, help="a file with a transform")
    parser.add_argument("target", metavar="TO", type=Path, help="the file to write")
    formats = f"one of {', '.join(TRANSFORM_FORMATS)}; by default what the file's ending says"
    parser.add_argument("--from", dest="source_format", default=None, metavar="FORMAT", help=formats)
    parser.add_argument("--to", dest="target_format", default=None, metavar="FORMAT", help="likewise, of TO")
    grids = "elastix needs the grid of FIXED; fsl, afni, qupath, warpy, bigwarp and freesurfer (to write) those of both"
    parser.add_argument("--fixed", type=Path, metavar="IMAGE", help=f"the fixed image, unless FROM is a registration; {grids}")
    parser.add_argument("--moving", type=Path, metavar="IMAGE", help="the moving image, likewise")


def add_info(commands: Any) -> None:
    example = "  drmime info fixed.nii.gz moving.png\n  drmime info out/transform.json --json"
    parser = command(commands, "info", "describe images and transforms, and what looks wrong before they are used", example)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="images; two are also compared; or transforms")
    parser.add_argument("--json", action="store_true", help="print a JSON list with one object for each file")

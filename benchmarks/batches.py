"""Seconds and memory of pairs that `register` is given in lists, by the number of pairs of a batch.

    python benchmarks/batches.py [--sides 256 512 2048] [--pairs 1 8] [--device cpu] [--steps 70] [--start none]

The images are smoothed noise, the moving ones shifted by two pixels. Each line is a process of its own; the memory is the peak
resident size less that before the images were made (on a GPU also the peak that torch has allocated there).
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from drmime import register
from drmime.lab.experiment.memory import peak_memory


def measure(side: int, count: int, options: dict) -> str:
    before = peak_memory() or float("nan")
    fixed = gaussian_filter(np.random.default_rng(0).random((side, side)), 3).astype(np.float32)
    moving = np.roll(fixed, 2, 0)
    if torch.cuda.is_available():
        register(fixed[:64, :64], moving[:64, :64], **options)  # loads the libraries of the GPU
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    register([fixed] * count, [moving] * count, **options)
    seconds = time.perf_counter() - began
    memory = (peak_memory() or float("nan")) - before
    there = f"  {torch.cuda.max_memory_allocated() / 1e6:7.0f} MB on the GPU" if torch.cuda.is_available() else ""
    return f"{side:5} x {side:<5} {count:4} pairs  {seconds / count:7.3f} s a pair  {memory:7.0f} MB{there}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 2048])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=70)
    parser.add_argument("--start", default="none")
    args = parser.parse_args()
    options = {"device": args.device, "schedule": {"steps": args.steps}, "start": args.start}
    if len(args.sides) == len(args.pairs) == 1:
        print(measure(args.sides[0], args.pairs[0], options), flush=True)
        return
    rest = ["--device", args.device, "--steps", str(args.steps), "--start", args.start]
    for side in args.sides:
        for count in args.pairs:
            subprocess.run([sys.executable, __file__, "--sides", str(side), "--pairs", str(count), *rest], check=True)


if __name__ == "__main__":
    main()

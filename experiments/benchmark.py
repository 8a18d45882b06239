"""Run configurations and keep their tables, with a description of the machine, in experiments/results.

    python experiments/benchmark.py pairs turned volumes --workers 2
    python experiments/benchmark.py same=synthetic --workers 2 --set dataset.recoloured=true

Rows and pages stay in runs/NAME, as `drmime run` leaves them; what was run already is not run again.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("summary.md", "summary.csv", "summary.tex", "domains.csv")
PACKAGES = (
    "drmime",
    "torch",
    "numpy",
    "scipy",
    "SimpleITK",
    "itk-elastix",
    "antspyx",
    "opencv-python-headless",
    "scikit-image",
)


def machine(command: list[str]) -> str:
    """What a reader must know to judge the seconds."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    found = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    lines = [
        f"command: drmime {' '.join(command)}",
        f"processor: {processor}, {os.cpu_count()} cores",
        f"gpu: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}",
        f"system: {platform.system()}, Python {platform.python_version()}",
        "packages: " + ", ".join(f"{name} {found[name.lower()]}" for name in PACKAGES if name.lower() in found),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run each configuration; the first that ends in anything but rows, failed ones included, ends this too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="+", metavar="NAME[=CONFIG]", help="kept as NAME, of configs/CONFIG.yaml; else of configs/NAME.yaml"
    )
    parser.add_argument("--workers", default="1")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in drmime run")
    options = parser.parse_args()
    more = [word for item in options.set for word in ("--set", item)]
    for one in options.names:
        name, _, config = one.partition("=")
        out = Path("runs") / name
        command = ["run", f"configs/{config or name}.yaml", "--workers", options.workers, "--out", str(out), *more]
        done = subprocess.run([sys.executable, "-m", "drmime", *command], cwd=ROOT, check=False)
        if done.returncode not in (0, 1):
            return done.returncode
        kept = ROOT / "experiments" / "results" / name
        kept.mkdir(parents=True, exist_ok=True)
        for table in TABLES:
            shutil.copyfile(ROOT / out / table, kept / table)
        (kept / "machine.txt").write_text(machine(command), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

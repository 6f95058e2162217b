"""Check and measure everything on a GPU, in one run: tests marked `gpu`, then rows of figures.

Needs Python 3.11 or newer with torch, torchvision, timm, numpy, grpcio, protobuf, pyarrow,
pydantic, typer and pytest; nothing is installed, and no network is used. What else is missing comes
from the folder of `--wheels`. Prints a line of JSON after each test and each row.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..process import PROJECT
from .bundle import PHOTOGRAPHS, WEIGHTS, BundleError, fetch, unpack
from .checks import CHECKS, choose
from .lines import Lines
from .overseer import oversee

RESULTS = PROJECT / "bench" / "results"


def main() -> None:
    """Run the checks; exit with 1 if any failed."""
    options = _options()
    if options.list:
        print("\n".join(f"{name:20} {check.says}" for name, check in CHECKS.items()))
        return
    try:
        if options.fetch_wheels:
            size = fetch(options.fetch_wheels, options.python_version)
            print(f"{options.fetch_wheels} has {size / 2**20:.1f} MiB")
            return
        sys.exit(_check(options))
    except BundleError as error:
        sys.exit(f"scripts/gpu: {error}")


def _check(options: argparse.Namespace) -> int:
    began, names = time.monotonic(), choose(options.only)
    with tempfile.TemporaryDirectory(prefix="thingsvision-gpu-") as scratch:
        site = Path(scratch) / "site"
        site.mkdir()
        unpack(options.wheels, site)
        with Lines(options.out or _default_file()) as lines:
            environment = _environment(site, is_pretended=options.pretend)
            oversee(names, _order(options, Path(scratch)), environment, lines)
            failed = sorted(lines.failed)
            lines.write({"check": "all", "ok": not failed, "failed": failed}, began)
    return 1 if failed else 0


def _order(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    bundle = options.wheels
    photographs = options.photos or (bundle / PHOTOGRAPHS if bundle else None)
    weights = bundle / WEIGHTS if bundle else None
    return {
        "pretend": options.pretend,
        "device": options.device or "",
        "photographs": str(photographs or ""),
        "weights": str(weights or ""),
        "scratch": str(scratch),
    }


def _environment(site: Path, *, is_pretended: bool) -> dict[str, str]:
    """Return the environment of the checks: this checkout's packages, then what was missing."""
    folders = [site, PROJECT, *(PROJECT / name for name in ("proto", "server", "client", "tests"))]
    path = [str(folder.resolve()) for folder in folders]
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    joined = os.pathsep.join(dict.fromkeys(filter(None, [*path, *others])))
    # Small passes of a CPU would spend most of its time on threads that spin.
    quiet = {"OMP_WAIT_POLICY": "passive"} if is_pretended else {}
    return os.environ | quiet | {"PYTHONPATH": joined, "PYTHONWARNINGS": "ignore"}


def _default_file() -> Path:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H%M%S")
    return RESULTS / f"gpu-{now}.jsonl"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", default=[], metavar="NAME", help="only these checks; patterns work")
    add("--list", action="store_true", help="print the names of all checks")
    add("--pretend", action="store_true", help="the same code on a CPU, with small sizes")
    add("--device", help="the device, e.g. cuda:1 (default: cuda:0, with --pretend cpu)")
    add("--wheels", type=Path, metavar="DIR", help="folder that --fetch-wheels filled")
    add("--fetch-wheels", type=Path, metavar="DIR", help="fill that folder, and do nothing else")
    add("--python-version", default="3.12", help="Python of the wheels to fetch (%(default)s)")
    add("--photos", type=Path, help="folder of photographs (default: of --wheels, or installed)")
    add("--out", type=Path, metavar="FILE", help="file of the lines (default: in bench/results)")
    return parser.parse_args()


if __name__ == "__main__":
    main()

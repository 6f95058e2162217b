"""Measure three servers behind one gateway against one server that is called directly.

    python -m bench.cluster [--quick] [--rounds 3] [--seconds 4] [--megabytes 2048]

Both ways have TLS and tokens; the gateway is `deploy/envoy/envoy.yaml`, with one thread. They are
measured in turn, in one run. Networks and images are tiny, so that few cores measure the ways and
not the networks: more servers compute more only where each has cores, or a GPU, of its own.
Prints a line of JSON per row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..process import PROJECT
from .clients import measure_clients
from .latency import measure_latency
from .streams import measure_streams
from .ways import Size, open_ways

CLIENTS, MODELS = (1, 8, 32), (1, 3, 9)


def main() -> None:
    """Measure, and print a line of JSON per row."""
    size = _size()
    sys.path.insert(0, str(PROJECT / "tests"))  # which start servers and gateways
    with (
        tempfile.TemporaryDirectory(prefix="thingsvision-cluster-") as folder,
        open_ways(Path(folder)) as ways,
    ):
        for row in measure_latency(ways, size):
            tell(row)
        for row in measure_streams(ways, size):
            tell(row)
        for clients in CLIENTS:
            for models in MODELS:
                tell(measure_clients(ways, size, clients, models))


def tell(row: dict[str, Any]) -> None:
    """Print a row, numbers with three significant digits."""
    print(json.dumps({name: _short(value) for name, value in row.items()}), flush=True)


def _short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _size() -> Size:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: about two minutes")
    parser.add_argument("--rounds", type=int, help="rounds of both ways in turn")
    parser.add_argument("--seconds", type=float, help="of each row of clients, in each round")
    parser.add_argument("--calls", type=int, help="of each row of latency, on each way")
    parser.add_argument("--megabytes", type=int, help="of each stream")
    given = vars(parser.parse_args())
    chosen = Size(2, 1.5, 100, 256) if given.pop("quick") else Size()
    return Size(**vars(chosen) | {name: one for name, one in given.items() if one is not None})


if __name__ == "__main__":
    main()

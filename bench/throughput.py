"""Measure the service against the same networks in one process, side by side.

Networks have random weights (seed 0) and the preprocessing of their pretrained weights. The
client and the local networks live in this process, the server in another on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import grpc
import numpy as np
import torch
from interleave import Row, measure
from local import LocalModel
from machine import describe_machine
from plain_stream import receive, stream_server
from rich.console import Console
from rich.table import Table
from served import serve

from thingsvision_client import Client

PROJECT = Path(__file__).resolve().parents[1]
RESULTS_DIR = PROJECT / "bench" / "results"
THROUGHPUT_CASES = [("squeezenet1_0", "features.12"), ("resnet50", "avgpool")]
STREAM_CASE = ("alexnet", "features.0")
ENDINGS = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    client: Client
    paths: list[Path]
    device: str
    rounds: int
    requests: int
    batch_size: int

    def rows(self, stream_address: str) -> Iterator[Row]:
        """Yield the rows of the report, measured one after another."""
        for name, module in THROUGHPUT_CASES:
            network = LocalModel(name, module, self.device)
            yield self.difference(network, name, module)
            yield self.images_per_second(network, name, module)
            yield self.one_image(network, name, module)
        yield self.megabytes_per_second(stream_address, *STREAM_CASE)

    def images_per_second(self, network: LocalModel, name: str, module: str) -> Row:
        """Measure all images in one request against a loop over batches."""
        arms = {
            "service": lambda: self._extract(name, module, self.paths),
            "local": lambda: self._local(network, self.paths),
            "local, early stop": lambda: self._local(network, self.paths, stops_early=True),
        }
        count = len(self.paths)
        return measure(
            f"{name} {module}", "images/s", arms, lambda s: count / s, rounds=self.rounds
        )

    def one_image(self, network: LocalModel, name: str, module: str) -> Row:
        """Measure a request of one image to a warm server against one forward pass."""
        image = self.paths[:1]
        arms = {
            "service": lambda: self._extract(name, module, image),
            "local": lambda: self._local(network, image),
            "local, early stop": lambda: self._local(network, image, stops_early=True),
        }
        title = f"{name} {module}, one image"
        return measure(title, "ms", arms, lambda s: 1000 * s, rounds=self.requests)

    def megabytes_per_second(self, stream_address: str, name: str, module: str) -> Row:
        """Measure large activations against computing them only, and against sending zeros only."""
        network = LocalModel(name, module, self.device)
        byte_count = self._extract(name, module, self.paths).nbytes
        with grpc.insecure_channel(stream_address) as channel:
            arms = {
                "service": lambda: self._extract(name, module, self.paths),
                "local": lambda: self._local(network, self.paths),
                "local, early stop": lambda: self._local(network, self.paths, stops_early=True),
                "stock gRPC stream": lambda: receive(channel, byte_count),
            }
            return measure(
                f"{name} {module}", "MB/s", arms, lambda s: byte_count / 1e6 / s, rounds=self.rounds
            )

    def difference(self, network: LocalModel, name: str, module: str) -> Row:
        """Compare the features at the same batch size; not a time, but it must be said first."""
        served = self._extract(name, module, self.paths, self.batch_size)
        local = self._local(network, self.paths)
        largest = float(np.abs(served - local).max() / np.abs(local).max())
        return Row(f"{name} {module}, largest difference", "of max", {"service": [largest]})

    def _extract(
        self, name: str, module: str, paths: Sequence[Path], batch_size: int | None = None
    ) -> np.ndarray:
        model = f"torchvision/{name}@random:0"
        extraction = self.client.extract(model, paths, module, batch_size=batch_size)
        return extraction.features[module]

    def _local(
        self, network: LocalModel, paths: Sequence[Path], *, stops_early: bool = False
    ) -> np.ndarray:
        return network.extract(paths, batch_size=self.batch_size, stops_early=stops_early)


def main() -> None:
    """Measure, print a table, and write all values to bench/results/."""
    options = _options()
    torch.set_num_threads(options.threads)
    device = options.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    paths = _photographs(options.folder, options.images)
    report: dict[str, object] = {"machine": describe_machine(device), "images": len(paths)}
    # A pipe has no width of its own; wrapped cells would be hard to read.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    with (
        tempfile.TemporaryDirectory(prefix="thingsvision-bench-") as scratch,
        serve(Path(scratch), f"--device={device}") as address,
        stream_server() as stream_address,
        Client(address) as client,
        console.status("Measuring"),
    ):
        bench = Bench(client, paths, device, options.rounds, options.requests, options.batch_size)
        rows = list(bench.rows(stream_address))
    report |= {"options": vars(options), "rows": [asdict(row) for row in rows]}
    console.print(_table(rows))
    console.print_json(json.dumps(report["machine"]))
    console.print(f"All values: {_write(report)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of photographs")
    parser.add_argument("--images", type=int, default=78, help="images a request (default 78)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of A B A B (default 7)")
    parser.add_argument("--requests", type=int, default=50, help="requests of one image")
    parser.add_argument("--batch-size", type=int, default=32, help="local batch (default 32)")
    cores = torch.get_num_threads()
    parser.add_argument("--threads", type=int, default=cores, help=f"local threads ({cores})")
    parser.add_argument(
        "--device", help="device of both, e.g. cpu (default: a GPU if there is one)"
    )
    return parser.parse_args()


def _photographs(folder: Path | None, count: int) -> list[Path]:
    shared = Path(os.environ.get("THINGSVISION_SHARED_DATA", PROJECT.parent / "shared" / "data"))
    folder = folder or shared / "photos78"
    if not folder.is_dir():
        folder = _scikit_image_folder()
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not found:
        raise SystemExit(f"There are no images ({', '.join(sorted(ENDINGS))}) in {folder}.")
    return list(islice(cycle(found), count))


def _scikit_image_folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("Name a folder of photographs: scripts/bench FOLDER")
    return Path(spec.origin).parent / "data"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="Medians; in brackets the service's ratio to the arm", show_lines=True)
    arms = list(dict.fromkeys(arm for row in rows for arm in row.values))
    for heading in ("", "unit", *arms):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for row in rows:
        medians = row.medians()
        cells = (_cell(arm, medians) if arm in medians else "" for arm in arms)
        table.add_row(row.title, row.unit, *cells)
    return table


def _cell(arm: str, medians: dict[str, float]) -> str:
    ratio = "" if arm == "service" else f" ({medians['service'] / medians[arm]:.2f})"
    return f"{medians[arm]:.3g}{ratio}"


def _write(report: dict[str, object]) -> Path:
    RESULTS_DIR.mkdir(exist_ok=True)
    machine = report["machine"]
    assert isinstance(machine, dict)
    stamp = machine["time"].replace(":", "").partition("+")[0]
    path = RESULTS_DIR / f"throughput-{stamp}.json"
    path.write_text(json.dumps(report, indent=2, default=str))
    return path


if __name__ == "__main__":
    main()

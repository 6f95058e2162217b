"""Rows about options that speed up forward passes: images per second, and feature differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ..cases import FeatureCase
from ..interleave import interleave
from ..process import ColumnProcess, close_all
from ..row import Cell, Row
from ..session import FirstRows, Session, differences, read_first_rows
from .features import FeatureRow

CLIENT = "bench.features.service"
DEFAULT = "service"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    DEFAULT: {},
    "channels_last": {"memory_format": "channels_last"},
    "bfloat16": {"precision": "bfloat16"},
    "both": {"memory_format": "channels_last", "precision": "bfloat16"},
    "compiled": {"compiled": True},
    "compiled, channels_last": {"compiled": True, "memory_format": "channels_last"},
}


@dataclass(frozen=True)
class OptionsRow:
    """The service with and without options that speed up its forward passes."""

    id: str
    network: str
    module: str
    count: int = 64

    def measure(self, session: Session) -> Row:
        """Time all options in turn; each runs once before, and those first results are compared."""
        count = session.choices.image_count or self.count
        of = FeatureRow(self.id, "torchvision", self.network, (self.module,))
        case = of.case(session, count)
        clients = {name: session.new_process(CLIENT) for name in OPTIONS}
        try:
            results = {name: _run_first(session, clients[name], name, case) for name in OPTIONS}
            arms: dict[str, Callable[[], float]] = {
                name: partial(_throughput, client, count) for name, client in clients.items()
            }
            values = interleave(arms, session.choices.patience)
        finally:
            close_all(clients.values())
        errors = differences(results, results[DEFAULT])
        cells = {name: Cell(values[name], errors[name]) for name in OPTIONS}
        said = self._says(case)
        return Row(
            self.id, said, "images/s", cells, differs_from=f"{DEFAULT}, of its largest value"
        )

    def _says(self, case: FeatureCase) -> str:
        return (
            f"{len(case.images)} photographs (JPEG files) through {self.network}, {self.module}, "
            f"batch size {case.batch_size}, client and server processes. service: the defaults; "
            "channels_last: memory_format; bfloat16: precision; both: both of them; compiled: with "
            "torch.compile, compiled beforehand"
        )


def _run_first(session: Session, client: ColumnProcess, name: str, case: FeatureCase) -> FirstRows:
    """Run a client for the first time, and return the first rows of its result."""
    client.prepare(asdict(replace(case, options=dict(OPTIONS[name]))))
    path = session.scratch / f"options-{name}.npz"
    client.run(keep=path)
    return read_first_rows(path)


def _throughput(client: ColumnProcess, count: int) -> float:
    return count / client.run().median_seconds


ROWS = (
    OptionsRow("options-alexnet-features.10", "alexnet", "features.10", 128),
    OptionsRow("options-resnet50-layer3.5", "resnet50", "layer3.5"),
    OptionsRow("options-vgg16-features.4", "vgg16", "features.4"),
)

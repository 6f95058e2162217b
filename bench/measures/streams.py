"""Rows about streams of early-layer activations: megabytes per second, and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path

from ..cases import StreamCase
from ..interleave import interleave
from ..memory import can_watch, peak_of
from ..networks import (
    EARLY_INPUT,
    EARLY_MODULE,
    EARLY_OUTPUT,
    IMAGE_INPUT,
    make_weights,
    weights_folder,
)
from ..process import close_all
from ..row import Cell, Row
from ..session import Session
from .versions import ServiceWork

COLUMNS = {
    "tcp": "bench.stream.tcp",
    "stock": "bench.stream.stock",
    "flight": "bench.stream.flight",
    "local": "bench.stream.local",
    "service": "bench.stream.service",
    "collected": "bench.stream.collected",
}
_MAIN = ("tcp", "stock", "flight", "local", "service")
_QUICK_SHARE = 8


def stream_case(session: Session, megabytes: int) -> StreamCase:
    """Return the case with about this many megabytes; its network is uploaded unless it exists."""
    share = _QUICK_SHARE if session.choices.quick else 1
    count = round(megabytes * 1e6 / share / (4 * prod(EARLY_OUTPUT)))
    return StreamCase(
        model=str(session.client.upload_model(_program())),
        module=EARLY_MODULE,
        count=session.choices.image_count or count,
        input_shape=list(EARLY_INPUT),
        shape=list(EARLY_OUTPUT),
        address=session.server.address,
        weights_dir=str(session.weights_dir),
        device=session.choices.device,
    )


def _program() -> Path:
    return weights_folder() / make_weights("own", "early", weights_folder()).file


@dataclass(frozen=True)
class StreamRow:
    """Activations as large as those of AlexNet's first layer, which cost almost nothing."""

    id: str
    megabytes: int
    published: tuple[str, str] = ("", "")
    """A network of torchvision and its module with activations as large; empty: an upload."""

    def case(self, session: Session) -> StreamCase:
        """Return the case, with the published network in the place of the upload."""
        case, (network, module) = stream_case(session, self.megabytes), self.published
        if not network:
            return case
        weights, _ = session.weights("torchvision", network)
        shape = list(IMAGE_INPUT)
        return replace(case, model=weights.model, module=module, input_shape=shape)

    def measure(self, session: Session) -> Row:
        """Time all columns in turn."""
        case = self.case(session)
        columns = {name: m for name, m in COLUMNS.items() if session.choices.full or name in _MAIN}
        cells = session.prepare(columns, asdict(case))
        session.warm_up(columns, cells)
        session.time(columns, cells, lambda seconds: case.byte_count / 1e6 / seconds)
        session.end_processes(list(COLUMNS.values()))
        return Row(self.id, self._says(case), "MB/s", cells)

    def service_work(self, session: Session) -> ServiceWork:
        """Return the service's case and figure."""
        case = self.case(session)
        return ServiceWork(
            COLUMNS["service"], case, lambda seconds: case.byte_count / 1e6 / seconds, "MB/s"
        )

    def _says(self, case: StreamCase) -> str:
        return (
            f"{case.byte_count / 1e9:.2f} GB of activations ({case.count:,} x 64 x 55 x 55, "
            f"float32) of {self._network()}. tcp: as many zeros "
            "through a socket; stock: zeros in stock-protobuf messages of 1 MiB, malloc untuned; "
            "flight: ready Arrow batches of 1 MiB; local: our engine without gRPC; service: "
            "Client.stream, every row computed, checked and counted; collected: Client.extract "
            "into an array"
        )

    def _network(self) -> str:
        network, module = self.published
        if network:
            return f"{network}, {module}, on tensors"
        return "an uploaded network of one 1 x 1 convolution on small tensors"


@dataclass(frozen=True)
class MemoryRow:
    """Peak memory while early-layer activations go from the server to clients."""

    id: str
    megabytes: int
    stream_count: int = 4

    def measure(self, session: Session) -> Row:
        """Measure all columns in turn, after a warm-up."""
        cells = {name: Cell() for name in self._arms(session, stream_case(session, 100))}
        if can_watch():
            self._fill(session, cells)
        else:
            for cell in cells.values():
                cell.missing = "needs Linux"
        return Row(self.id, self._says(), "MB", cells, more_is_better=False)

    def _fill(self, session: Session, cells: dict[str, Cell]) -> None:
        case = stream_case(session, self.megabytes)
        arms = self._arms(session, case)
        for arm in arms.values():
            arm()
        for name, values in interleave(arms, session.choices.patience).items():
            cells[name].values = values
        session.end_processes([COLUMNS["service"], COLUMNS["collected"]])

    def _arms(self, session: Session, case: StreamCase) -> dict[str, Callable[[], float]]:
        slow = replace(case, count=max(1, case.count // 4), pause_seconds=0.02)
        return {
            "client, collecting": lambda: _client_peak(session, "collected", case),
            "client, streaming": lambda: _client_peak(session, "service", case),
            "server, a stream": lambda: _server_growth(session, [case]),
            f"server, each of {self.stream_count}": lambda: _server_growth(
                session, [case] * self.stream_count
            ),
            "server, a slow reader": lambda: _server_growth(session, [slow]),
        }

    def _says(self) -> str:
        return (
            "Peak resident memory above the start, after a warm-up. client, collecting: "
            "Client.extract, less the result itself; client, streaming: Client.stream; server: its "
            "growth during one stream, during several divided by their number, and during one "
            "whose reader pauses 20 ms after each part"
        )


def _client_peak(session: Session, column: str, case: StreamCase) -> float:
    process = session.process(COLUMNS[column])
    process.prepare(asdict(case))
    notes = process.run().notes
    return float((notes["peak_growth_bytes"] - notes.get("result_bytes", 0)) / 1e6)


def _server_growth(session: Session, cases: list[StreamCase]) -> float:
    clients = [session.new_process(COLUMNS["service"]) for _ in cases]
    try:
        for client, case in zip(clients, cases, strict=True):
            client.prepare(asdict(case))
        with peak_of(session.server.pid) as peak:
            for client in clients:
                client.start()
            for client in clients:
                client.finish()
    finally:
        close_all(clients)
    return peak.growth_bytes / 1e6 / len(cases)


ROWS = (
    StreamRow("stream-2GB", 2048),
    StreamRow("stream-published-512MB", 512, published=("alexnet", "features.0")),
    MemoryRow("memory", 500),
)

FULL_ONLY = ("stream-published-512MB",)

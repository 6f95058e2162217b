"""Rows about concurrent clients: total images per second, and how evenly clients are served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from ..interleave import interleave
from ..process import ColumnProcess, Run, close_all
from ..row import Cell, Row
from ..session import Session
from .features import FeatureRow

CLIENT = "bench.features.service"
REQUESTS = {1: 24, 4: 24, 16: 24}
"""Requests of each client, by number of clients; with few requests the p95 is the slowest one."""

QUICK_REQUESTS = {1: 4, 4: 2}


@dataclass
class _ClientGroup:
    """Concurrent clients, and how long each waited for its replies."""

    clients: list[ColumnProcess]
    request_count: int
    image_count: int
    waits: list[list[float]] = field(default_factory=list)

    def run(self) -> float:
        """Run all clients at once, and return their total images per second."""
        for client in self.clients:
            client.start(self.request_count)
        runs: list[Run] = [client.finish() for client in self.clients]
        self.waits = self.waits or [[] for _ in runs]
        for wait, run in zip(self.waits, runs, strict=True):
            wait.extend(run.seconds)
        seconds = max(run.ended for run in runs) - min(run.began for run in runs)
        return len(runs) * self.request_count * self.image_count / seconds

    def notes(self) -> dict[str, float]:
        """Return the largest p95 of a request over clients, and its ratio to the smallest."""
        p95 = [float(np.percentile(wait, 95)) for wait in self.waits]
        return {"p95_seconds": round(max(p95), 3), "p95_spread": round(max(p95) / min(p95), 3)}


@dataclass(frozen=True)
class ConcurrencyRow:
    """Clients in processes of their own that use the same model, or one model each."""

    id: str
    network: str
    module: str
    own_models: bool
    image_count: int = 16

    def measure(self, session: Session) -> Row:
        """Measure each number of clients in turn."""
        requests = QUICK_REQUESTS if session.choices.quick else REQUESTS
        clients = self._clients(session, max(requests))
        try:
            groups = {
                f"{count} client{'s' if count > 1 else ''}": _ClientGroup(
                    clients[:count], each, self.image_count
                )
                for count, each in requests.items()
            }
            arms: dict[str, Callable[[], float]] = {n: group.run for n, group in groups.items()}
            values = interleave(arms, session.choices.patience)
        finally:
            close_all(clients)
        cells = {n: Cell(values[n], notes=dict(group.notes())) for n, group in groups.items()}
        return Row(self.id, self._says(), "images/s", cells)

    def _clients(self, session: Session, count: int) -> list[ColumnProcess]:
        clients = [session.new_process(CLIENT) for _ in range(count)]
        row = FeatureRow(self.id, "torchvision", self.network, (self.module,))
        case = replace(row.case(session, self.image_count), merges=True)
        for number, client in enumerate(clients):
            seeded = f"torchvision/{self.network}@random:{number}"
            client.prepare(asdict(replace(case, model=seeded if self.own_models else case.model)))
            client.run()
        return clients

    def _says(self) -> str:
        which = "each with its own model" if self.own_models else "all with one model"
        return (
            f"Concurrent clients in processes of their own request {self.network}, {self.module}, "
            f"{which}: {self.image_count} photographs a request, one request after the other; the "
            "server may merge batches. Figures are totals over all clients; p95_spread is the "
            "largest client's p95 of a request divided by the smallest"
        )


ROWS = (
    ConcurrencyRow("clients-one-model", "alexnet", "features.10", own_models=False),
    ConcurrencyRow("clients-own-models", "mobilenet_v3_small", "features.12", own_models=True),
)

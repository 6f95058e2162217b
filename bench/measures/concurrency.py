"""Rows about many clients at once: all images per second, and how alike they are served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from ..interleave import interleave
from ..process import ColumnProcess, Run
from ..row import Cell, Row
from ..session import Session
from .features import FeatureRow

CLIENT = "bench.features.service"
REQUESTS = {1: 24, 4: 24, 16: 24}
"""How many requests each client sends, by how many clients there are; a p95 of few is the worst."""

QUICK_REQUESTS = {1: 4, 4: 2}


@dataclass
class _Crowd:
    """Some clients at once, and how long each waited for its answers."""

    clients: list[ColumnProcess]
    request_count: int
    image_count: int
    waits: list[list[float]] = field(default_factory=list)

    def run(self) -> float:
        """Have all clients ask at once, and return images per second of all together."""
        for client in self.clients:
            client.start(self.request_count)
        runs: list[Run] = [client.finish() for client in self.clients]
        self.waits = self.waits or [[] for _ in runs]
        for wait, run in zip(self.waits, runs, strict=True):
            wait.extend(run.seconds)
        seconds = max(run.ended for run in runs) - min(run.began for run in runs)
        return len(runs) * self.request_count * self.image_count / seconds

    def notes(self) -> dict[str, float]:
        """Tell the slowest client's p95 of a request, and how far the clients' are apart."""
        p95 = [float(np.percentile(wait, 95)) for wait in self.waits]
        return {"p95_seconds": round(max(p95), 3), "p95_spread": round(max(p95) / min(p95), 3)}


@dataclass(frozen=True)
class CrowdRow:
    """Clients in processes of their own that ask for the same model, or each for another."""

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
            crowds = {
                f"{count} client{'s' if count > 1 else ''}": _Crowd(
                    clients[:count], each, self.image_count
                )
                for count, each in requests.items()
            }
            arms: dict[str, Callable[[], float]] = {n: crowd.run for n, crowd in crowds.items()}
            values = interleave(arms, session.choices.patience)
        finally:
            for client in clients:
                client.close()
        cells = {n: Cell(values[n], notes=dict(crowds[n].notes())) for n in crowds}
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
        which = "each for a model of its own" if self.own_models else "all for one model"
        return (
            f"Clients in processes of their own ask at once for {self.network}, {self.module}, "
            f"{which}: {self.image_count} photographs a request, one request after the other, "
            "the server free to merge batches. Figures are of all clients together; p95_spread is "
            "the largest of the clients' p95 of a request by the smallest"
        )


ROWS = (
    CrowdRow("clients-one-model", "alexnet", "features.10", own_models=False),
    CrowdRow("clients-own-models", "mobilenet_v3_small", "features.12", own_models=True),
)

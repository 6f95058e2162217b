"""Rows about loading: from weights on disk to a model that is ready to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ..interleave import interleave
from ..row import Cell, Row
from ..session import Session
from .features import FeatureRow

BARE = "bench.features.bare_load"


@dataclass(frozen=True)
class LoadRow:
    """One network, loaded by a running server and by a running script."""

    id: str
    network: str

    def measure(self, session: Session) -> Row:
        """Time loads in turn; each model is freed again, untimed."""
        case = FeatureRow(self.id, "torchvision", self.network, ()).case(session, 1)
        uploaded = (
            f"torchvision/{self.network}@sha256:{session.client.upload_weights(case.weights)}"
        )
        process = session.process(BARE)
        process.prepare(asdict(case))
        arms: dict[str, Callable[[], float]] = {
            "service": lambda: _seconds(session, case.model),
            "uploaded": lambda: _seconds(session, uploaded),
            "bare": lambda: process.run().median_seconds,
        }
        for model in (case.model, uploaded):  # the first load caches what later loads reuse
            _seconds(session, model)
        values = interleave(arms, session.choices.patience)
        return Row(
            self.id,
            self._says(),
            "s",
            {name: Cell(values[name]) for name in arms},
            more_is_better=False,
        )

    def _says(self) -> str:
        return (
            f"{self.network} from a weight file (in the system's cache) to a model that is ready. "
            "service: a file in the weights folder, including the SHA-256 of all weights for the "
            "provenance; uploaded: the same file as an upload; bare: torchvision's builder, "
            "torch.load and load_state_dict, without a digest"
        )


def _seconds(session: Session, model: str) -> float:
    started = time.perf_counter()
    session.client.load(model)
    seconds = time.perf_counter() - started
    session.client.unload(model)
    return seconds


ROWS = tuple(LoadRow(f"load-{network}", network) for network in ("alexnet", "resnet50", "vgg16"))

"""Rows about features of photographs: throughput, latency of one image, cold start."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ..cases import FeatureCase
from ..interleave import interleave
from ..process import PROJECT, ColumnError, command, environment, last_lines
from ..row import Cell, Row
from ..session import NO_PEER, REFERENCE, Session, differences
from .versions import ServiceWork

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "torchvision": {
        name: f"bench.features.{name}" for name in ("limit", "local", "service", "bare", "peer")
    },
    "keras": {
        "limit": "bench.features.limit_keras",
        "local": "bench.features.local",
        "service": "bench.features.service",
        "bare": "bench.features.bare_keras",
        "peer": "bench.features.peer",
    },
    "own": {"service": "bench.features.service"},
}

_SAYS = (
    "{count} photographs (JPEG files) through {network}, {modules}, batch size {batch}, float32. "
    "limit: preloaded tensors, a forward pass up to the module, nothing else; local: our engine in "
    "one process; service: client and server processes; bare: torchvision (or Keras) and a data "
    "loader; peer: THINGSvision 2.7.3"
)


@dataclass(frozen=True)
class FeatureRow:
    """A network, some modules and a number of photographs, measured as images per second."""

    id: str
    source: str
    network: str
    modules: tuple[str, ...]
    count: int = 64
    warm_count: int | None = None
    """Images in the untimed first run; None means all."""
    inputs: str = "files"
    only: tuple[str, ...] = ("limit", "local", "service", "bare", "peer")

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns' modules by column name."""
        return {name: COLUMNS[self.source][name] for name in self.only}

    def measure(self, session: Session) -> Row:
        """Time all columns in turn."""
        case = self.case(session, session.choices.image_count or self.count)
        images = case.images
        warm = replace(case, images=images[: self.warm_count])
        cells = session.prepare(self.columns, asdict(warm))
        _compare(session, self.columns, cells)
        if len(warm.images) < len(images):
            usable = {n: m for n, m in self.columns.items() if not cells[n].missing}
            cells |= _with_differences(session.prepare(usable, asdict(case)), cells)
        session.time(self.columns, cells, lambda seconds: len(images) / seconds)
        return Row(self.id, self._says(case), "images/s", cells)

    def service_work(self, session: Session) -> ServiceWork:
        """Return the service's case and figure."""
        case = self.case(session, session.choices.image_count or self.count)
        count = len(case.images)
        return ServiceWork(
            self.columns["service"], case, figure=lambda seconds: count / seconds, unit="images/s"
        )

    def case(self, session: Session, count: int) -> FeatureCase:
        """Return the case with `count` photographs."""
        weights, file = session.weights(self.source, self.network)
        return FeatureCase(
            network=self.network,
            model=weights.model or str(session.client.upload_model(file)),
            modules=list(self.modules),
            images=session.images(count),
            weights=str(file),
            weights_dir=str(session.weights_dir),
            address=session.server.address,
            device=session.choices.device,
            inputs=self.inputs,
        )

    def _says(self, case: FeatureCase) -> str:
        said = _SAYS.format(
            count=len(case.images),
            network=self.network,
            modules=" + ".join(self.modules),
            batch=case.batch_size,
        )
        tensors = "; images are sent as preprocessed tensors"
        return said + (tensors if self.inputs == "tensors" else "")


@dataclass(frozen=True)
class OneImageRow:
    """One image to a warm server, milliseconds."""

    id: str
    of: FeatureRow
    times: int = 10

    def service_work(self, session: Session) -> ServiceWork:
        """Return the service's case and figure."""
        return ServiceWork(
            self.of.columns["service"],
            self.of.case(session, 1),
            figure=lambda seconds: 1000 * seconds,
            unit="ms",
            more_is_better=False,
            times=self.times,
        )

    def measure(self, session: Session) -> Row:
        """Time requests of one image in turn, several per turn."""
        columns = self.of.columns
        cells = session.prepare(columns, asdict(self.of.case(session, 1)))
        _compare(session, columns, cells)
        session.time(columns, cells, lambda seconds: 1000 * seconds, self.times)
        says = (
            f"One photograph through {self.of.network}, {self.of.modules[0]}, with everything "
            f"loaded; each figure is the median of {self.times} in a row. Columns as for "
            "throughput, bare without worker processes"
        )
        return Row(self.id, says, "ms", cells, more_is_better=False)


@dataclass(frozen=True)
class ColdRow:
    """From a new process to the features of one image, seconds."""

    id: str
    of: FeatureRow

    def measure(self, session: Session) -> Row:
        """Time whole processes in turn."""
        case_path = session.scratch / f"{self.id}.json"
        case_path.write_text(json.dumps(asdict(self.of.case(session, 1))))
        once = partial(_seconds_once, session, case_path)
        columns = self.of.columns
        arms: dict[str, Callable[[], float]] = {
            "service": partial(self._time_unloaded, session, partial(once, columns["service"])),
            "service + server": partial(self._time_with_server, session, columns["service"]),
            "bare": partial(once, columns["bare"]),
            "peer": partial(once, columns["peer"]),
        }
        cells = {name: Cell() for name in arms}
        if session.choices.peer is None:
            cells["peer"].missing = NO_PEER
            del arms["peer"]
        for name, values in interleave(arms, session.choices.patience).items():
            cells[name].values = values
        return Row(self.id, self._says(), "s", cells, more_is_better=False)

    def _time_unloaded(self, session: Session, once: Callable[[], float]) -> float:
        """Unload the model from the server first."""
        model = self.of.case(session, 1).model
        if any(resident.model_id == model for resident in session.client.residency().models):
            session.client.unload(model)
        return once()

    def _time_with_server(self, session: Session, module: str) -> float:
        started = time.perf_counter()
        with session.new_server() as server:
            case = replace(self.of.case(session, 1), address=server.address)
            case_path = session.scratch / f"{self.id}-own.json"
            case_path.write_text(json.dumps(asdict(case)))
            _seconds_once(session, case_path, module)
            return time.perf_counter() - started

    def _says(self) -> str:
        return (
            f"From a new process to the features of one photograph, {self.of.network}, "
            f"{self.of.modules[0]}: imports, weights from disk (in the system's cache), forward "
            "pass. service: a new client, and a running server that has not loaded the model; "
            "service + server: also the server's start"
        )


def _seconds_once(session: Session, case_path: Path, module: str) -> float:
    """Run a column's module in a new process, for one case. Raises ColumnError."""
    python = session.choices.peer if module.endswith(".peer") else None
    once = [*command(module, python), "--once", str(case_path)]
    log_path = session.scratch / f"{module}.cold.log"
    with log_path.open("wb") as log:
        started = time.perf_counter()
        done = subprocess.run(
            once, stdin=subprocess.DEVNULL, stderr=log, cwd=PROJECT, env=environment()
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise ColumnError(f"{module} ended with {done.returncode}:\n{last_lines(log_path)}")
    return seconds


def _compare(session: Session, columns: Mapping[str, str], cells: Mapping[str, Cell]) -> None:
    """Run all columns once, and write their differences from `local` into their cells."""
    results = session.warm_up(columns, cells)
    if REFERENCE in results:
        for name, difference in differences(results, results[REFERENCE]).items():
            cells[name].difference = difference


def _with_differences(cells: dict[str, Cell], known: Mapping[str, Cell]) -> dict[str, Cell]:
    for name, cell in cells.items():
        cell.difference = known[name].difference
    return cells


ALEXNET = FeatureRow("alexnet-features.10", "torchvision", "alexnet", ("features.10",), count=128)

ROWS = (
    ALEXNET,
    FeatureRow("alexnet-features.0", "torchvision", "alexnet", ("features.0",), count=128),
    FeatureRow("resnet50-layer3.5", "torchvision", "resnet50", ("layer3.5",), warm_count=32),
    FeatureRow("resnet50-avgpool", "torchvision", "resnet50", ("avgpool",), warm_count=32),
    FeatureRow(
        "resnet50-avgpool-tensors",
        "torchvision",
        "resnet50",
        ("avgpool",),
        inputs="tensors",
        only=("limit", "local", "service"),
    ),
    FeatureRow("vgg16-features.4", "torchvision", "vgg16", ("features.4",), warm_count=32),
    FeatureRow("vit_b_16-encoder", "torchvision", "vit_b_16", ("encoder",), warm_count=8),
    FeatureRow("keras-mobilenetv2", "keras", "MobileNetV2", ("block_13_expand",)),
    FeatureRow(
        "alexnet-several",
        "torchvision",
        "alexnet",
        ("features.2", "features.5", "features.12", "classifier.5"),
    ),
    FeatureRow("squeezenet1_0-features.12", "torchvision", "squeezenet1_0", ("features.12",)),
    FeatureRow(
        "own-alexnet-features.10",
        "own",
        "alexnet",
        ("features.10",),
        count=128,
        inputs="tensors",
        only=("service",),
    ),
    OneImageRow("one-image", ALEXNET),
    ColdRow("cold-start", ALEXNET),
)

FULL_ONLY = (
    "resnet50-avgpool-tensors",
    "squeezenet1_0-features.12",
    "own-alexnet-features.10",
)

"""What all measurements share: the server, the columns' processes, files; knows no row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thingsvision_client import Client
from thingsvision_server.allocator import KEEP_FREED_MEMORY

from .earlier import Earlier
from .interleave import Patience, interleave
from .networks import Weights, make_weights, weights_folder
from .photographs import copy_photographs
from .process import ColumnError, ColumnProcess
from .row import Cell
from .served import Served, serve

NO_PEER = "left out, or its environment is not there: `scripts/bench --peer` makes it"
REFERENCE = "local"
KEEPING = ("limit", REFERENCE)
"""Columns that have memory as the server has it, which is set before anything is loaded."""

Kept = Mapping[str, npt.NDArray[Any]]
"""The first rows of a column's result."""


@dataclass(frozen=True)
class Choices:
    """What the command line may choose."""

    patience: Patience
    device: str
    photographs: Path
    image_count: int | None
    """Images of every row of features; None leaves it to the row."""
    quick: bool
    full: bool
    peer: Path | None
    """The peer's interpreter."""


@dataclass
class Session:
    """One run of the bench."""

    choices: Choices
    scratch: Path
    server: Served
    client: Client
    processes: dict[str, ColumnProcess] = field(default_factory=dict)
    _images: list[Path] = field(default_factory=list)

    @property
    def weights_dir(self) -> Path:
        """The server's folder of weights."""
        return self.scratch / "weights"

    def images(self, count: int) -> list[str]:
        """Return the first so many photographs."""
        if len(self._images) < count:
            folder = self.scratch / "photographs"
            self._images = copy_photographs(self.choices.photographs, count, folder)
        return [str(path) for path in self._images[:count]]

    def weights(self, source: str, network: str) -> tuple[Weights, Path]:
        """Return a network's weights, and the file for columns that are no service."""
        weights = make_weights(source, network, weights_folder())
        return weights, weights_folder() / (weights.arrays or weights.file)

    def process(self, module: str) -> ColumnProcess:
        """Return a column's process, started where there is none."""
        known = self.processes.get(module)
        if known is None or known.is_gone:
            self.processes[module] = self.new_process(module)
        return self.processes[module]

    def new_process(self, module: str) -> ColumnProcess:
        """Start a process for a column. Raises ColumnError for the peer without environment."""
        column = module.rpartition(".")[2]
        of_peer = column == "peer"
        if of_peer and self.choices.peer is None:
            raise ColumnError(NO_PEER)
        log_path = self.scratch / f"{module}.log"
        variables = KEEP_FREED_MEMORY if column in KEEPING else None
        return ColumnProcess(module, log_path, self.choices.peer if of_peer else None, variables)

    def new_server(self, earlier: Earlier | None = None) -> AbstractContextManager[Served]:
        """Run one more server like the session's, or one of an earlier commit."""
        variables = earlier.variables if earlier else None
        return _serve(self.choices, self.scratch, "another-server", variables)

    def earlier_process(self, module: str, earlier: Earlier) -> ColumnProcess:
        """Start a column's process as an earlier commit has it."""
        log_path = self.scratch / f"{module}.before.log"
        return ColumnProcess(module, log_path, variables=earlier.variables, tree=earlier.tree)

    def end_processes(self, modules: Sequence[str]) -> None:
        """End columns' processes, to have their memory back."""
        for module in modules:
            if module in self.processes:
                self.processes.pop(module).close()

    def prepare(self, columns: Mapping[str, str], case: Mapping[str, Any]) -> dict[str, Cell]:
        """Get columns ready for a case; those that can't say why in their cell.

        The processes of all other columns end: together they may need more memory than there is.
        """
        self.end_processes(sorted(self.processes.keys() - set(columns.values())))
        cells = {name: Cell() for name in columns}
        for name, module in columns.items():  # all import their libraries side by side
            self._try(cells[name], partial(self.process, module))
        for name, module in columns.items():
            self._try(cells[name], partial(self._prepare, module, case))
        return cells

    def warm_up(self, columns: Mapping[str, str], cells: Mapping[str, Cell]) -> dict[str, Kept]:
        """Run each column once, untimed, and return the first rows of the results."""
        for name, module in columns.items():
            self._try(cells[name], partial(self._run, module))
        return self._kept(columns, cells)

    def time(
        self,
        columns: Mapping[str, str],
        cells: Mapping[str, Cell],
        figure: Callable[[float], float],
        times: int = 1,
    ) -> dict[str, Kept]:
        """Run the columns in turn, and put `figure` of the seconds into their cells.

        Returns the first rows of the last results.
        """

        def arm(name: str) -> Callable[[], float]:
            def work() -> float:
                process = self.process(columns[name])
                run = process.run(times, self._kept_path(columns[name]))
                cells[name].notes = run.notes
                return figure(run.median_seconds)

            return work

        arms = {name: arm(name) for name in columns if not cells[name].missing}
        for name, values in interleave(arms, self.choices.patience).items():
            cells[name].values = values
        return self._kept(columns, cells)

    def _kept(self, columns: Mapping[str, str], cells: Mapping[str, Cell]) -> dict[str, Kept]:
        kept: dict[str, Kept] = {}
        for name, module in columns.items():
            if not cells[name].missing:
                kept[name] = read_kept(self._kept_path(module))
        return kept

    def _kept_path(self, module: str) -> Path:
        return self.scratch / f"{module}.npz"

    def _prepare(self, module: str, case: Mapping[str, Any]) -> None:
        self.process(module).prepare(case)

    def _run(self, module: str) -> None:
        self.process(module).run(keep=self._kept_path(module))

    @staticmethod
    def _try(cell: Cell, work: Callable[[], object]) -> None:
        if cell.missing:
            return
        try:
            work()
        except ColumnError as error:
            cell.missing = str(error)


def read_kept(path: Path) -> Kept:
    """Return the first rows of a result that a process kept in a file."""
    with np.load(path) as arrays:
        return dict(arrays)


def differences(kept: Mapping[str, Kept], reference: Kept) -> dict[str, float]:
    """Return each result's largest difference to the reference's, of its largest value."""
    return {name: max(_differences(arrays, reference)) for name, arrays in kept.items()}


def _differences(arrays: Kept, reference: Kept) -> Iterator[float]:
    for name, right in reference.items():
        count = min(len(right), len(arrays[name]))
        largest = np.abs(right[:count]).max() or 1.0
        yield float(np.abs(arrays[name][:count] - right[:count]).max() / largest)


def _serve(
    choices: Choices, scratch: Path, log_name: str, variables: Mapping[str, str] | None = None
) -> AbstractContextManager[Served]:
    options = (f"--weights-dir={scratch / 'weights'}", f"--device={choices.device}")
    return serve(scratch / f"{log_name}.log", *options, variables=variables)


@contextmanager
def open_session(choices: Choices, scratch: Path) -> Iterator[Session]:
    """Start the server, and end all processes at the end."""
    weights_dir = scratch / "weights"
    weights_dir.mkdir()
    for source in ("torchvision", "keras"):
        (weights_folder() / source).mkdir(parents=True, exist_ok=True)
        (weights_dir / source).symlink_to(weights_folder() / source)
    with (
        _serve(choices, scratch, "server") as server,
        Client(server.address) as client,
    ):
        server.wait_until_idle()
        session = Session(choices, scratch, server, client)
        try:
            yield session
        finally:
            session.end_processes(list(session.processes))

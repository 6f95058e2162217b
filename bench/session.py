"""The server, the column processes and the files that all measurements share."""

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
from .process import ColumnError, ColumnProcess, close_all
from .processor import ProcessorTime
from .row import Cell
from .server import ServerProcess, serve

NO_PEER = "left out, or its environment does not exist: `scripts/bench --peer` makes it"
REFERENCE = "local"
WITH_SERVER_ALLOCATOR = ("limit", REFERENCE)
"""Columns that use the server's allocator settings, which must be set before anything loads."""

FirstRows = Mapping[str, npt.NDArray[Any]]
"""The first rows of a column's result, by module."""


@dataclass(frozen=True)
class Choices:
    """The choices of the command line."""

    patience: Patience
    device: str
    photographs: Path
    image_count: int | None
    """Images per row of features; None means the row's own number."""
    quick: bool
    full: bool
    peer: Path | None
    """The peer's interpreter."""


@dataclass
class Session:
    """One run of the bench."""

    choices: Choices
    scratch: Path
    server: ServerProcess
    client: Client
    processes: dict[str, ColumnProcess] = field(default_factory=dict)
    _images: list[Path] = field(default_factory=list)

    @property
    def weights_dir(self) -> Path:
        """The server's weights folder."""
        return self.scratch / "weights"

    def images(self, count: int) -> list[str]:
        """Return the first `count` photographs."""
        if len(self._images) < count:
            folder = self.scratch / "photographs"
            self._images = copy_photographs(self.choices.photographs, count, folder)
        return [str(path) for path in self._images[:count]]

    def weights(self, source: str, network: str) -> tuple[Weights, Path]:
        """Return a network's weights, and the file for columns other than the service."""
        weights = make_weights(source, network, weights_folder())
        return weights, weights_folder() / (weights.arrays or weights.file)

    def process(self, module: str) -> ColumnProcess:
        """Return a column's process, started if it isn't running."""
        known = self.processes.get(module)
        if known is None or known.has_ended:
            self.processes[module] = self.new_process(module)
        return self.processes[module]

    def new_process(self, module: str) -> ColumnProcess:
        """Start a process for a column. Raises ColumnError if the peer's environment is missing."""
        column = module.rpartition(".")[2]
        of_peer = column == "peer"
        if of_peer and self.choices.peer is None:
            raise ColumnError(NO_PEER)
        log_path = self.scratch / f"{module}.log"
        variables = KEEP_FREED_MEMORY if column in WITH_SERVER_ALLOCATOR else None
        return ColumnProcess(module, log_path, self.choices.peer if of_peer else None, variables)

    def new_server(self, earlier: Earlier | None = None) -> AbstractContextManager[ServerProcess]:
        """Run another server like the session's, or one of an earlier commit."""
        variables = earlier.variables if earlier else None
        return _serve(self.choices, self.scratch, "another-server", variables)

    def earlier_process(self, module: str, earlier: Earlier) -> ColumnProcess:
        """Start a process for a column, with the code of an earlier commit."""
        log_path = self.scratch / f"{module}.before.log"
        return ColumnProcess(module, log_path, variables=earlier.variables, tree=earlier.tree)

    def end_processes(self, modules: Sequence[str]) -> None:
        """End column processes to free their memory."""
        close_all([self.processes.pop(name) for name in modules if name in self.processes])

    def prepare(self, columns: Mapping[str, str], case: Mapping[str, Any]) -> dict[str, Cell]:
        """Get columns ready for a case; if a column can't, its cell says why.

        The processes of all other columns end: together they might run out of memory.
        """
        self.end_processes(sorted(self.processes.keys() - set(columns.values())))
        cells = {name: Cell() for name in columns}
        for name, module in columns.items():  # all import their libraries in parallel
            self._try(cells[name], partial(self.process, module))
        for name, module in columns.items():
            self._try(cells[name], partial(self._prepare, module, case))
        return cells

    def warm_up(
        self, columns: Mapping[str, str], cells: Mapping[str, Cell]
    ) -> dict[str, FirstRows]:
        """Run each column once, untimed, and return the first rows of the results."""
        for name, module in columns.items():
            self._try(cells[name], partial(self._run, module))
        return self._load_first_rows(columns, cells)

    def time(
        self,
        columns: Mapping[str, str],
        cells: Mapping[str, Cell],
        figure: Callable[[float], float],
        times: int = 1,
    ) -> dict[str, FirstRows]:
        """Run the columns in turn, and put `figure(seconds)` into their cells.

        Returns the first rows of the last results.
        """

        def arm(name: str) -> Callable[[], float]:
            def work() -> float:
                process = self.process(columns[name])
                used = ProcessorTime(own=process.pid, server=self.server.pid)
                run = process.run(times, self._first_rows_path(columns[name]))
                cells[name].notes = {**run.notes, **used.notes(times)}
                return figure(run.median_seconds)

            return work

        arms = {name: arm(name) for name in columns if not cells[name].missing}
        for name, values in interleave(arms, self.choices.patience).items():
            cells[name].values = values
        return self._load_first_rows(columns, cells)

    def _load_first_rows(
        self, columns: Mapping[str, str], cells: Mapping[str, Cell]
    ) -> dict[str, FirstRows]:
        results: dict[str, FirstRows] = {}
        for name, module in columns.items():
            if not cells[name].missing:
                results[name] = read_first_rows(self._first_rows_path(module))
        return results

    def _first_rows_path(self, module: str) -> Path:
        return self.scratch / f"{module}.npz"

    def _prepare(self, module: str, case: Mapping[str, Any]) -> None:
        self.process(module).prepare(case)

    def _run(self, module: str) -> None:
        self.process(module).run(keep=self._first_rows_path(module))

    @staticmethod
    def _try(cell: Cell, work: Callable[[], object]) -> None:
        if cell.missing:
            return
        try:
            work()
        except ColumnError as error:
            cell.missing = str(error)


def read_first_rows(path: Path) -> FirstRows:
    """Read the first rows of a result, as saved by a column's process."""
    with np.load(path) as arrays:
        return dict(arrays)


def differences(results: Mapping[str, FirstRows], reference: FirstRows) -> dict[str, float]:
    """Return each result's largest difference from the reference, relative to its largest value."""
    return {name: max(_differences(arrays, reference)) for name, arrays in results.items()}


def _differences(arrays: FirstRows, reference: FirstRows) -> Iterator[float]:
    for name, right in reference.items():
        count = min(len(right), len(arrays[name]))
        largest = np.abs(right[:count]).max() or 1.0
        yield float(np.abs(arrays[name][:count] - right[:count]).max() / largest)


def _serve(
    choices: Choices, scratch: Path, log_name: str, variables: Mapping[str, str] | None = None
) -> AbstractContextManager[ServerProcess]:
    options = (f"--weights-dir={scratch / 'weights'}", f"--device={choices.device}")
    return serve(scratch / f"{log_name}.log", *options, variables=variables)


@contextmanager
def open_session(choices: Choices, scratch: Path) -> Iterator[Session]:
    """Start the server; on exit, end all processes."""
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

"""Rows of this checkout beside an earlier commit: the same work before and after, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from ..cases import FeatureCase, StreamCase
from ..earlier import Earlier
from ..interleave import interleave
from ..process import ColumnProcess
from ..row import Cell, Row
from ..session import Kept, Session, differences, read_kept

BEFORE, AFTER = "before", "service"


@dataclass(frozen=True)
class ServiceWork:
    """What the column `service` of a row does, and what its seconds are made into."""

    module: str
    case: FeatureCase | StreamCase
    figure: Callable[[float], float]
    unit: str
    more_is_better: bool = True
    times: int = 1
    """Repetitions of the work in each round."""


class HasService(Protocol):
    """A row with a column `service` whose work can be repeated."""

    @property
    def id(self) -> str:
        """Its name."""

    def service_work(self, session: Session) -> ServiceWork:
        """Return what the column does."""


@dataclass(frozen=True)
class VersionsRow:
    """A row of which only the service is measured, of an earlier commit and of this checkout."""

    of: HasService
    earlier: Earlier

    @property
    def id(self) -> str:
        """Its name: no goal of the plain row is meant."""
        return f"{self.of.id}-against-{self.earlier.commit[:7]}"

    def measure(self, session: Session) -> Row:
        """Time both in turn, each with a server and a client process of its own."""
        work = self.of.service_work(session)
        session.end_processes(list(session.processes))
        cells = {BEFORE: Cell(), AFTER: Cell()}
        with ExitStack() as stack:
            server = stack.enter_context(session.new_server(self.earlier))
            before = stack.enter_context(session.earlier_process(work.module, self.earlier))
            processes = {BEFORE: before, AFTER: session.process(work.module)}
            addresses = {BEFORE: server.address, AFTER: session.server.address}
            for name, process in processes.items():
                process.prepare(asdict(replace(work.case, address=addresses[name])))
            found = {name: _kept(session, name, process) for name, process in processes.items()}
            if found[BEFORE]:  # streams keep nothing
                for name, difference in differences(found, found[BEFORE]).items():
                    cells[name].difference = difference
            arms = {name: _arm(process, work, cells[name]) for name, process in processes.items()}
            for name, values in interleave(arms, session.choices.patience).items():
                cells[name].values = values
        return Row(
            self.id,
            self._says(),
            work.unit,
            cells,
            work.more_is_better,
            f"{BEFORE}, in its kept rows",
        )

    def _says(self) -> str:
        return (
            f"The column `service` of the row {self.of.id}, of commit {self.earlier.commit[:12]} "
            f"({BEFORE}) and of this checkout ({AFTER}): a server and a client process each"
        )


def versions_rows(rows: Sequence[Any], earlier: Earlier) -> list[VersionsRow]:
    """Return the rows that have a repeatable column `service`, to be measured of both.

    Raises SystemExit if there are none.
    """
    chosen = [VersionsRow(row, earlier) for row in rows if hasattr(row, "service_work")]
    if not chosen:
        raise SystemExit("None of these rows can be measured of two commits: see bench/measures.")
    return chosen


def _kept(session: Session, name: str, process: ColumnProcess) -> Kept:
    """Run once, untimed, and return the first rows of the result."""
    path = session.scratch / f"versions.{name}.npz"
    process.run(keep=path)
    return read_kept(path)


def _arm(process: ColumnProcess, work: ServiceWork, cell: Cell) -> Callable[[], float]:
    def once() -> float:
        run = process.run(work.times)
        cell.notes = run.notes
        return work.figure(run.median_seconds)

    return once

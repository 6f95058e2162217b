"""Rows that compare this checkout with an earlier commit: the same work by both, in turn."""

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
from ..session import FirstRows, Session, differences, read_first_rows

BEFORE, AFTER = "before", "service"


@dataclass(frozen=True)
class ServiceWork:
    """The case of a row's column `service`, and how its seconds become a figure."""

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
        """The row's name."""

    def service_work(self, session: Session) -> ServiceWork:
        """Return the column's case and figure."""


@dataclass(frozen=True)
class VersionsRow:
    """A row that measures only the service, at an earlier commit and in this checkout."""

    of: HasService
    earlier: Earlier

    @property
    def id(self) -> str:
        """The row's name, which differs from the plain row's: goals don't apply to it."""
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
            found = {name: _warm_up(session, name, process) for name, process in processes.items()}
            if found[BEFORE]:  # streams keep no rows
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
            more_is_better=work.more_is_better,
            differs_from=f"{BEFORE}, in its kept rows",
        )

    def _says(self) -> str:
        return (
            f"The column `service` of the row {self.of.id}, at commit {self.earlier.commit[:12]} "
            f"({BEFORE}) and in this checkout ({AFTER}): a server and a client process each"
        )


def versions_rows(rows: Sequence[Any], earlier: Earlier) -> list[VersionsRow]:
    """Return comparison rows for all rows with a repeatable column `service`.

    Raises SystemExit if there are none.
    """
    chosen = [VersionsRow(row, earlier) for row in rows if hasattr(row, "service_work")]
    if not chosen:
        raise SystemExit("None of these rows can compare two commits: see bench/measures.")
    return chosen


def _warm_up(session: Session, name: str, process: ColumnProcess) -> FirstRows:
    """Run once, untimed, and return the first rows of the result."""
    path = session.scratch / f"versions.{name}.npz"
    process.run(keep=path)
    return read_first_rows(path)


def _arm(process: ColumnProcess, work: ServiceWork, cell: Cell) -> Callable[[], float]:
    def once() -> float:
        run = process.run(work.times)
        cell.notes = run.notes
        return work.figure(run.median_seconds)

    return once

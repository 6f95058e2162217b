"""Rows and goals as JSON, as Markdown for the docs, and as text for a table's cells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .goals import Outcome, outcomes
from .row import Cell, Row

BASE = "service"
"""The column whose ratio to each other column is shown in brackets."""


@dataclass(frozen=True)
class Report:
    """The results of one run of the bench."""

    machine: dict[str, Any]
    options: dict[str, Any]
    rows: list[Row]
    seconds: float

    def write(self, folder: Path) -> list[Path]:
        """Write `bench.json` and `bench.md`, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        data, text = folder / "bench.json", folder / "bench.md"
        data.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n")
        text.write_text("".join(f"{line}\n" for line in self.markdown()))
        return [data, text]

    def markdown(self) -> Iterator[str]:
        """Yield the lines of a page."""
        yield from self._heading()
        yield "## Figures"
        yield ""
        yield "Medians; in brackets, how many times better `service` is; below, the largest"
        yield "difference of the result (0 if bit-identical)."
        for columns, rows in group_rows(self.rows):
            yield ""
            yield from _table(["row", "unit", *columns], [_cells(row, columns) for row in rows])
        yield from self._goals()
        yield from self._explanations()

    def _heading(self) -> Iterator[str]:
        machine = self.machine
        yield "# Bench"
        yield ""
        yield (
            f"{machine['time']}, commit {machine['commit']}, {machine['cpu']}, {machine['cores']} "
            f"cores, {machine['memory_gib']} GiB, device {machine['device']}, load before "
            f"{machine['load_average_before']}; {self.seconds / 60:.0f} minutes."
        )
        for name in ("versions", "peer_versions"):
            versions = ", ".join(f"{key} {value}" for key, value in machine[name].items())
            yield ""
            yield f"{name.replace('_', ' ').capitalize()}: {versions or 'none'}."
        yield ""

    def _goals(self) -> Iterator[str]:
        found = list(outcomes(self.rows))
        yield ""
        yield "## Goals"
        yield ""
        yield from _table(["row", "goal", "seen", "reached"], map(_goal_cells, found))

    def _explanations(self) -> Iterator[str]:
        yield ""
        yield "## What the rows compare"
        for row in self.rows:
            yield ""
            yield f"**{row.id}**: {row.says}.{_differs_from(row)}"
            for name, cell in row.cells.items():
                if cell.notes or cell.missing:
                    notes = ", ".join(f"{key} {value}" for key, value in cell.notes.items())
                    yield f"* {name}: {_last_line(cell.missing) or notes}"


def group_rows(rows: Iterable[Row]) -> Iterator[tuple[list[str], list[Row]]]:
    """Yield groups of consecutive rows that can share a table, with all their columns."""
    groups: list[tuple[list[str], list[Row]]] = []
    for row in rows:
        names = list(row.cells)
        if groups and _are_alike(names, groups[-1][0]):
            columns, members = groups[-1]
            columns += [name for name in names if name not in columns]
            members.append(row)
        else:
            groups.append((names, [row]))
    yield from groups


def _are_alike(names: Sequence[str], others: Sequence[str]) -> bool:
    return set(names) <= set(others) or set(names) >= set(others)


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'|'.join('---' for _ in headings)}|"
    for line in lines:
        yield f"| {' | '.join(line)} |"


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    texts = (cell_text(row, name).replace("\n", "<br>") for name in columns)
    return [row.id, row.unit, *texts]


def cell_text(row: Row, column: str) -> str:
    """Return a cell in up to two lines: figure and ratio, then difference."""
    cell = row.cells.get(column)
    if cell is None or cell.median is None:
        return "" if cell is None else "missing"
    ratio = None if column == BASE else row.ratio(BASE, column)
    first = figure_text(cell.median) + (f" ({ratio:.2f})" if ratio else "")
    return first + _difference_text(cell)


def figure_text(value: float) -> str:
    """Return a figure with three significant digits, never with an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _difference_text(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    return f"\n{cell.difference:.0e}" if cell.difference else "\n0"


def _goal_cells(outcome: Outcome) -> list[str]:
    seen = "not measured" if outcome.seen is None else f"{outcome.seen:.3g}"
    reached = {None: "", True: "yes", False: "**no**"}[outcome.reached]
    return [outcome.row, outcome.goal, seen, reached]


def _differs_from(row: Row) -> str:
    has_some = any(cell.difference is not None for cell in row.cells.values())
    return f" Differences are to {row.differs_from}." if has_some else ""


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]

"""Prints the report on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .goals import Outcome, outcomes
from .report import Report, cell_text, group_rows
from .row import Row

_PIPE_WIDTH = 140
"""The width for a pipe, which has none of its own: wrapped cells would be hard to read."""

_MARKS = {None: "", True: "yes", False: "[bold red]no[/]"}


def show(report: Report) -> None:
    """Print all figures, the reasons for missing ones, and the goals."""
    console = Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)
    for columns, rows in group_rows(report.rows):
        console.print(_figures(columns, rows))
    for row in report.rows:
        for name, cell in row.cells.items():
            if cell.missing:
                console.print(f"{row.id}, {name}: {cell.missing}", markup=False)
    console.print(_goals(list(outcomes(report.rows))))


def _figures(columns: Sequence[str], rows: Sequence[Row]) -> Table:
    caption = "Medians (how many times better service is); largest difference of the result"
    table = Table(caption=caption, show_lines=True)
    for heading in ("", "unit", *columns):
        table.add_column(heading, justify="left" if heading in ("", "unit") else "right")
    for row in rows:
        table.add_row(row.id, row.unit, *(cell_text(row, name) for name in columns))
    return table


def _goals(found: Sequence[Outcome]) -> Table:
    table = Table("row", "goal", "seen", "reached")
    for outcome in found:
        seen = "not measured" if outcome.seen is None else f"{outcome.seen:.3g}"
        table.add_row(outcome.row, outcome.goal, seen, _MARKS[outcome.reached])
    return table

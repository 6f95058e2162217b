"""Shows text that changes in its place on a terminal, or one text after another in a file."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text


def show_live(texts: Iterable[str]) -> None:
    """Show each text in the place of the one before."""
    console = Console()
    if not console.is_terminal:
        for text in texts:
            typer.echo(text)
            typer.echo()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for text in texts:
            live.update(Text(text), refresh=True)

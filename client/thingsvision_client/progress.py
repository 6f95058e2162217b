"""Progress of long calls: the type of callbacks, and a bar for terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, "int | None"], None]
"""Called with a stage of the work, the units done, and the total, None if unknown."""


def say(line: str) -> None:
    """Print a line on stderr, apart from results, where no filter of warnings hides it."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Yield a callback that draws progress on stderr, or None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        tasks = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show

"""Progress of long calls: the type of callbacks, bars of tqdm, and lines on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from shutil import get_terminal_size
from typing import Any

Progress = Callable[[str, int, "int | None"], None]
"""Called with a stage of the work, the units done, and the total, None if unknown."""

ProgressChoice = Progress | bool | None
"""A callback; True for a bar, False for none; None for a bar in terminals and in Jupyter."""

_LOADING = "loading"
_WAITING = "waiting for memory"
_UNITS = {"comparing": " blocks", "fitting": " blocks", "repairing": " batches"}
"""What is counted in a stage, if not images."""


def loading_stage(model: str) -> str:
    """Return the stage in which a server loads a model, by the model's name."""
    return f"{_LOADING} {model}"


def waiting_stage(place: int, count: int, reason: str) -> str:
    """Return the stage in which a call waits for memory on the server, by its place and why."""
    return f"{_WAITING}, place {place} of {count}: {reason}"


def _is_before_work(stage: str) -> bool:
    """Whether nothing is counted in a stage, which comes before the work or interrupts it."""
    return stage.startswith((_LOADING, _WAITING))


def say(line: str) -> None:
    """Print a line on stderr, apart from results, where no filter of warnings hides it."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        print(line, file=sys.stderr, flush=True)
    else:  # above a bar, if there is one
        tqdm.tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()


@contextmanager
def open_progress(choice: ProgressChoice) -> Iterator[Progress | None]:
    """Yield the callback that a user chose: their own, or a bar; None for none."""
    if callable(choice):
        yield choice
        return
    wanted = (_is_notebook() or _is_terminal()) if choice is None else bool(choice)
    if not wanted:
        yield None
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


@contextmanager
def report_lost_result() -> Iterator[None]:
    """Say, where Ctrl-C ends a call whose result is in memory alone, that nothing was kept."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            "Interrupted: nothing was kept, since this call's result is in memory. With "
            "output_dir, or on the command line, complete rows of features stay, and the same call "
            "goes on."
        )
        raise


def note(progress: Progress | None, text: str) -> None:
    """Show the size of the result beside a bar, or on a line; functions of users are not told."""
    if isinstance(progress, (Bar, Lines)):
        progress.note(text)


class Bar:
    """A bar of tqdm for each stage: units done, units/s, time left."""

    def __init__(self) -> None:
        self._tqdm = _tqdm()
        self._bar: Any = None
        self._stage = self._note = ""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show the progress of a stage."""
        if stage != self._stage:
            self.close()
            self._bar, self._stage = self._open(stage, done, total), stage
        if total != self._bar.total and total is not None:
            self._bar.total = total
        self._bar.update(done - self._bar.n)

    def note(self, text: str) -> None:
        """Show a text beside the bar."""
        self._note = text
        if self._bar is not None and not _is_before_work(self._stage):
            self._bar.set_postfix_str(text)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._stage = None, ""

    def _open(self, stage: str, done: int, total: int | None) -> Any:
        is_before_work = _is_before_work(stage)
        bar = self._tqdm(
            desc=stage,
            total=total,
            initial=done,
            unit=_UNITS.get(stage, " images"),
            leave=not is_before_work,
            file=sys.stderr,
            **({} if _is_notebook() else _screen()),
            **({"bar_format": "{desc} ..."} if is_before_work else {}),
        )
        if self._note and not is_before_work:
            bar.set_postfix_str(self._note)
        return bar


class Lines:
    """A line on stderr for each stage, for a command whose output goes to a file or a pipe."""

    def __init__(self) -> None:
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Say which stage begins."""
        if stage != self._stage:
            self._stage = stage
            count = "" if _is_before_work(stage) else f" {done}/{'?' if total is None else total}"
            say(f"{stage}{count}")

    def note(self, text: str) -> None:
        """Say how large the result will be."""
        say(f"The features will have {text}.")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Yield a callback for a command: a bar if stderr is a terminal, else lines."""
    if not _is_terminal():
        yield Lines()
        return
    with open_progress(True) as progress:
        if progress is not None:
            yield progress


def _screen() -> dict[str, int]:
    """Return the size of the terminal; some say 0 x 0, where tqdm would draw nothing."""
    size = get_terminal_size()
    return {"ncols": max(40, size.columns), "nrows": max(20, size.lines)}


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _is_notebook() -> bool:
    """Whether this is a kernel of Jupyter, whose stderr is shown below the cell."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _tqdm() -> Any:
    """Return tqdm's bar: a widget in Jupyter where ipywidgets is installed, else text."""
    is_widget = _is_notebook() and find_spec("ipywidgets") is not None
    return import_module("tqdm.notebook" if is_widget else "tqdm").tqdm

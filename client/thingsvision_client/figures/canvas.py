"""An empty figure, its style and its file, without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError, MissingDependencyError
from ..files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "font.size": 7.0,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "image.composite_image": False,  # pictures stay separate, for editing
    "pdf.fonttype": 42,  # text stays text, which journals require
    "ps.fonttype": 42,
    "svg.hashsalt": "thingsvision",  # else ids are random
}

_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
"""Metadata left out, by file ending, so that the same figure always has the same bytes."""

DPI = 300


@contextmanager
def use_style() -> Iterator[None]:
    """Draw and write figures in our style: small type, thin lines.

    Raises MissingDependencyError.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError(
            "Plots need matplotlib: pip install 'thingsvision-service[plot]'"
        ) from error
    with mpl.rc_context(_STYLE):
        yield


def new_figure(width_inches: float, height_inches: float, dpi: int = DPI) -> Figure:
    """Return an empty figure that pyplot does not manage, so that no window shows it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), dpi=dpi, facecolor="white")


def check_figure(path: Path) -> None:
    """Raise, before work that may take long, the errors that writing a figure there would."""
    with use_style():
        check_format(path)


def check_format(path: Path) -> str:
    """Return the format of a figure by its file ending. Raises InvalidRequestError."""
    from matplotlib.backend_bases import FigureCanvasBase

    ending = path.suffix.removeprefix(".").lower()
    valid = FigureCanvasBase.get_supported_filetypes()
    if ending not in valid:
        raise InvalidRequestError(
            f"The ending of a figure must be one of {', '.join(sorted(valid))}, got {path.name!r}."
        )
    return ending


def check_colormap(name: str) -> None:
    """Raise InvalidRequestError for a colormap that matplotlib does not have."""
    from matplotlib import colormaps

    if not isinstance(name, str) or name not in colormaps:
        near = get_close_matches(str(name), list(colormaps)) or ["cividis", "viridis", "magma"]
        raise InvalidRequestError(
            f"`colormap` must be one of matplotlib's, such as {', '.join(near)}, got {name!r}."
        )


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure atomically, in the format of its file ending, with the same bytes every time.

    Raises InvalidRequestError for an unknown format.
    """
    ending = check_format(path)
    with atomic_file(path) as file:
        figure.savefig(file, format=ending, metadata=_UNDATED.get(ending))

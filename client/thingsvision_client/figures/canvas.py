"""A blank figure, its style and its file, without a display; knows nothing of what is drawn."""

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
    "image.composite_image": False,  # pictures stay apart, for who edits a figure
    "pdf.fonttype": 42,  # letters stay letters, which journals ask for
    "ps.fonttype": 42,
    "svg.hashsalt": "thingsvision",  # ids are drawn by chance without it
}

_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
"""Metadata left out, by file ending: the same figure is the same bytes, today and tomorrow."""

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
    """Return a figure that no window shows, and that pyplot does not know."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), dpi=dpi, facecolor="white")


def check_figure(path: Path) -> None:
    """Raise, before work that may take long, what writing a figure there would raise."""
    with use_style():
        check_format(path)


def check_format(path: Path) -> str:
    """Return the format that a figure's file ending names. Raises InvalidRequestError."""
    from matplotlib.backend_bases import FigureCanvasBase

    ending = path.suffix.removeprefix(".").lower()
    valid = FigureCanvasBase.get_supported_filetypes()
    if ending not in valid:
        raise InvalidRequestError(
            f"A figure can't be {path.name!r}: its ending is one of {', '.join(sorted(valid))}."
        )
    return ending


def check_colormap(name: str) -> None:
    """Raise InvalidRequestError for colours that matplotlib does not have."""
    from matplotlib import colormaps

    if name not in colormaps:
        near = get_close_matches(name, list(colormaps)) or ["cividis", "viridis", "magma"]
        raise InvalidRequestError(
            f"matplotlib has no colormap {name!r}; it has, for example, {', '.join(near)}."
        )


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole, or not at all, as its file ending says; the same bytes every time.

    Raises InvalidRequestError for an ending that is no format of figures.
    """
    ending = check_format(path)
    with atomic_file(path) as file:
        figure.savefig(file, format=ending, metadata=_UNDATED.get(ending))

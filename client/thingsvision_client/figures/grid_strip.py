"""The strip along an edge of a panel, where pictures, brackets and names are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .grid_layout import Box
from .grid_margins import LABEL_SIZE, Margin
from .thumbnails import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#444444"
_BETWEEN_BRACKETS = 0.024


@dataclass(frozen=True)
class Strip:
    """Axes with rows along the edge, and inches away from it.

    `cell` is the length of a row, in inches; `is_upright` turns names by 90 degrees. `is_vector`
    keeps the pixels of pictures, for formats that scale them.
    """

    axes: Axes
    cell: float
    is_left: bool
    is_upright: bool
    is_vector: bool

    @property
    def length(self) -> float:
        """Length of the edge, in inches."""
        limits = self.axes.get_ylim() if self.is_left else self.axes.get_xlim()
        return float(abs(limits[1] - limits[0])) * self.cell

    def put_picture(self, picture: Picture, along: float, out: float, *, size: float) -> None:
        """Draw a picture, `size` inches wide and high, whose middle is `out` from the edge."""
        half_row, half = size / self.cell / 2, size / 2
        rows, outs = (along - half_row, along + half_row), (out - half, out + half)
        left, right = outs[::-1] if self.is_left else rows
        top, bottom = rows if self.is_left else outs
        limits = self.axes.axis()
        # Pixel formats resample the picture; vector formats keep it as it is.
        kind = "none" if self.is_vector else "antialiased"
        extent = (left, right, bottom, top)
        image = self.axes.imshow(picture, extent=extent, aspect="auto", interpolation=kind)
        image.set_clip_on(False)
        self.axes.axis(limits)

    def put_bracket(self, start: int, stop: int, out: float) -> None:
        """Draw a line along rows, from `start` to `stop` (exclusive)."""
        air = _BETWEEN_BRACKETS / self.cell / 2
        ends, outs = [start - 0.5 + air, stop - 0.5 - air], [out, out]
        places = (outs, ends) if self.is_left else (ends, outs)
        self.axes.plot(*places, color=_INK, linewidth=1, solid_capstyle="butt", clip_on=False)

    def put_name(self, text: str, place: float, out: float) -> None:
        """Write a name beside a place along the edge."""
        where: dict[str, Any] = {"ha": "center", "va": "top"}
        if self.is_left:
            where = {"ha": "right", "va": "center"}
        elif self.is_upright:
            where = {"ha": "center", "va": "top", "rotation": 90}
        x, y = (out, place) if self.is_left else (place, out)
        where |= {"size": LABEL_SIZE, "parse_math": False, "linespacing": 1.05}
        self.axes.text(x, y, text, multialignment="right", **where)


def strip_of(
    figure: Figure, panel: Box, margin: Margin, count: int, *, is_left: bool, is_vector: bool
) -> Strip:
    """Return the strip for a margin, left of a panel of `count` rows or below it."""
    depth = margin.depth
    left = Box(panel.left - depth, panel.bottom, depth, panel.height)
    below = Box(panel.left, panel.bottom - depth, panel.width, depth)
    axes = axes_in(figure, left if is_left else below)
    axes.set_axis_off()
    rows, outs = (count - 0.5, -0.5), (depth, 0.0)
    axes.axis((*outs, *rows) if is_left else (*rows[::-1], *outs))
    return Strip(
        axes=axes,
        cell=panel.width / count,
        is_left=is_left,
        is_upright=margin.upright,
        is_vector=is_vector,
    )


def axes_in(figure: Figure, box: Box) -> Axes:
    """Return axes at a position in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes(
        (box.left / width, box.bottom / height, box.width / width, box.height / height)
    )

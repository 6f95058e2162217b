"""The edge of a panel, along which pictures, brackets and names lie; decides nothing of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .grid_layout import LABEL_SIZE, Box, Margin
from .thumbnails import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#444444"
_BETWEEN_BRACKETS = 0.024


@dataclass(frozen=True)
class Strip:
    """Axes with rows along the edge, and inches away from it.

    `cell` is the length of a row, in inches; `is_upright` whether names stand on their side.
    """

    axes: Axes
    cell: float
    is_left: bool
    is_upright: bool

    def put_picture(self, picture: Picture, row: int, out: float, *, size: float) -> None:
        """Draw a picture, `size` inches wide and high, with its middle `out` from the edge."""
        half_row, half = size / self.cell / 2, size / 2
        rows, outs = (row - half_row, row + half_row), (out + half, out - half)
        left, right = outs if self.is_left else rows
        top, bottom = rows if self.is_left else outs[::-1]
        limits = self.axes.axis()
        image = self.axes.imshow(picture, extent=(left, right, bottom, top), aspect="auto")
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
        options = {"size": LABEL_SIZE, "parse_math": False, "linespacing": 1.05}
        self.axes.text(x, y, text, multialignment="right", **where, **options)


def left_strip(figure: Figure, panel: Box, margin: Margin, count: int) -> Strip:
    """Return the strip left of a panel of `count` rows."""
    box = Box(panel.left - margin.depth, panel.bottom, margin.depth, panel.height)
    axes = _bare(figure, box)
    axes.axis((margin.depth, 0.0, count - 0.5, -0.5))
    return Strip(axes, panel.height / count, is_left=True, is_upright=False)


def strip_below(figure: Figure, panel: Box, margin: Margin, count: int) -> Strip:
    """Return the strip below a panel of `count` columns."""
    box = Box(panel.left, panel.bottom - margin.depth, panel.width, margin.depth)
    axes = _bare(figure, box)
    axes.axis((-0.5, count - 0.5, margin.depth, 0.0))
    return Strip(axes, panel.width / count, is_left=False, is_upright=margin.upright)


def axes_in(figure: Figure, box: Box) -> Axes:
    """Return axes at a place in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes(
        (box.left / width, box.bottom / height, box.width / width, box.height / height)
    )


def _bare(figure: Figure, box: Box) -> Axes:
    axes = axes_in(figure, box)
    axes.set_axis_off()
    return axes

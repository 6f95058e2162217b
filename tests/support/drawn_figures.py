"""Random RDMs of images in categories, and checks of what a figure shows."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

COUNT = 24
CATEGORIES = ["animal"] * 9 + ["tool with a long name"] * 4 + ["face"] * 11
LONG = "torchvision/wide_resnet50_2@sha256:0a63eeca57704d64b69f8573a56fe988 layer4.2.relu"


def random_rdm(seed: int, count: int = COUNT) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).random((count, count)), k=1)
    rdm: np.ndarray = upper + upper.T
    return rdm


def names() -> list[str]:
    return [f"{category}/{row:02d}.png" for row, category in enumerate(CATEGORIES)]


def rdm_axes(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_title()]


def ticks_out_of_view(figure: Any) -> list[Any]:
    """Return the labels that matplotlib keeps, but does not draw."""
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis)]
    return [
        label
        for axis in axes
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    ]


def assert_nothing_overlaps(figure: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    unseen = ticks_out_of_view(figure)
    texts = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and text not in unseen
    ]
    assert texts
    page = figure.bbox
    for text, box in texts:
        assert box.x0 >= page.x0 - 1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1, text
        assert box.y1 <= page.y1 + 1, text
    for (one, first), (other, second) in combinations(texts, 2):
        over = first.intersection(first, second)
        assert over is None or min(over.width, over.height) < 2, (one, other)

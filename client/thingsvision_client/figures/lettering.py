"""The room that letters need in a figure, in inches."""

from __future__ import annotations

from functools import lru_cache
from textwrap import wrap

POINTS_PER_INCH = 72
LINE_HEIGHT = 1.2
"""Distance between two lines, relative to the size of letters."""


@lru_cache(maxsize=4096)
def width_of(text: str, size: float) -> float:
    """Return the width of the longest line of a text, at that size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    measure = TextToPath().get_text_width_height_descent
    font = FontProperties(size=size)
    widths = [measure(line, font, ismath=False)[0] for line in text.split("\n")]
    return float(max(widths)) / POINTS_PER_INCH


def height_of(text: str, size: float) -> float:
    """Return the height of a text of one or more lines, at that size in points."""
    return (1 + text.count("\n")) * LINE_HEIGHT * size / POINTS_PER_INCH


def wrap_text(text: str, characters: int) -> str:
    """Return the text in lines of about so many characters, without breaking words."""
    lines = wrap(text, characters, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) or text


def shorten(text: str, size: float, room: float) -> str:
    """Return the text, or as much of its two ends as fits: `torchvision/…features.12`."""
    if width_of(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = kept // 3  # module names and file names differ at their ends
        short = f"{text[:head]}…{text[len(text) - kept + head :]}"
        if width_of(short, size) <= room:
            return short
    return text[:1]

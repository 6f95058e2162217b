"""Lists of names in sentences."""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMED = 10


def quote(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    """Return the first names of a list, and how many more there are, for a sentence.

    `most` is the number of names at most. They stand in quotation marks: `'a', 'b' and 3 more`.
    """
    more = len(names) - most
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {more} more" if more > 0 else "")

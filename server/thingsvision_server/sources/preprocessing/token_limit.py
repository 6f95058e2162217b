"""Rejects texts with more tokens than a model reads."""

from __future__ import annotations

from ...errors import ImageError

_QUOTED = 40
"""Characters of a text that an error quotes."""


def check_token_count(text: str, count: int, most: int, *, advice: str = "Shorten it") -> None:
    """Raise ImageError if a text has too many tokens, start and end tokens included."""
    if count <= most:
        return
    beginning = text[:_QUOTED] + ("..." if len(text) > _QUOTED else "")
    raise ImageError(
        f"the text {beginning!r} has {count} tokens, start and end included; this model reads "
        f"at most {most}. {advice}",
        field="image.text",
        subject=beginning,
    )

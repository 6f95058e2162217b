"""Refuses texts of more tokens than a model reads; knows no tokenizer."""

from __future__ import annotations

from ...errors import ImageError

_QUOTED = 40
"""Letters of a text that an error quotes."""


def check_token_count(text: str, count: int, most: int, *, advice: str = "Shorten it") -> None:
    """Raise ImageError where a text has too many tokens, its start and its end among them."""
    if count <= most:
        return
    beginning = text[:_QUOTED] + ("..." if len(text) > _QUOTED else "")
    raise ImageError(
        f"the text {beginning!r} has {count} tokens with its start and its end; this model reads "
        f"at most {most}. {advice}",
        field="image.text",
        subject=beginning,
    )

"""Rejects texts with more tokens than a model reads, and texts that take long to tokenize."""

from __future__ import annotations

from ...errors import ImageError

_QUOTED = 40
"""Characters of a text that an error quotes."""

_MOST_CHARACTERS, _MOST_IN_A_WORD = 10_000, 1_000
"""Far more than any model reads. A tokenizer's time grows with the square of a word's length."""


def check_text_length(text: str) -> None:
    """Raise ImageError if a text, or a word of it, is so long that tokenizing takes seconds."""
    word = max(text.split(), key=len, default="")
    for part, what, most in ((text, "text", _MOST_CHARACTERS), (word, "word", _MOST_IN_A_WORD)):
        if len(part) > most:
            beginning = _beginning(part)
            raise ImageError(
                f"the {what} {beginning!r} has {len(part):,} characters; a {what} must have at "
                f"most {most:,}. Shorten it",
                field="image.text",
                subject=beginning,
            )


def check_token_count(text: str, count: int, most: int, *, advice: str = "Shorten it") -> None:
    """Raise ImageError if a text has too many tokens, start and end tokens included."""
    if count <= most:
        return
    beginning = _beginning(text)
    raise ImageError(
        f"the text {beginning!r} has {count} tokens, start and end included; this model reads "
        f"at most {most}. {advice}",
        field="image.text",
        subject=beginning,
    )


def _beginning(text: str) -> str:
    return text[:_QUOTED] + ("..." if len(text) > _QUOTED else "")

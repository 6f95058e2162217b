"""Arguments as users pass them, numpy's scalars and arrays included, checked and made plain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import index
from pathlib import Path
from typing import Any

from .errors import InvalidRequestError


def as_text(argument: str, value: Any) -> str:
    """Return a text, also of an array with only one. Raises InvalidRequestError."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, str):
        return str(value)
    raise InvalidRequestError(
        f"`{argument}` must be a text, got {value!r} ({type(value).__name__})."
    )


def as_texts(argument: str, given: Any) -> list[str]:
    """Return texts of any iterable, such as an array or a Series, as a list.

    Raises InvalidRequestError, also for a single text.
    """
    values = given.tolist() if hasattr(given, "tolist") else given  # of numpy's own texts
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidRequestError(
            f"`{argument}` must be a list of texts, got {given!r}: for a single text, give [TEXT]."
        )
    found = list(values)
    if wrong := [one for one in found if not isinstance(one, str)]:
        raise InvalidRequestError(
            f"`{argument}` must be texts, got {wrong[0]!r} ({type(wrong[0]).__name__})."
        )
    return [str(one) for one in found]


def as_whole(argument: str, value: Any, smallest: int | None = None) -> int:
    """Return a whole number as Python's int, but not True or False. Raises InvalidRequestError."""
    try:
        if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError  # noqa: TRY301
        if getattr(value, "shape", ()) != ():
            raise TypeError  # noqa: TRY301
        number = index(value)
    except (TypeError, RuntimeError, ValueError):
        what = f"`{argument}` must be a whole number, got {value!r} ({type(value).__name__})."
        raise InvalidRequestError(what) from None
    if smallest is not None and number < smallest:
        raise InvalidRequestError(f"`{argument}` must be at least {smallest}, got {number}.")
    return number


def choose(argument: str, value: Any, valid: Collection[str]) -> str:
    """Return a value that must be one of several texts. Raises InvalidRequestError."""
    if isinstance(value, str) and value in valid:
        return str(value)
    raise InvalidRequestError(f"`{argument}` must be one of {', '.join(valid)}, got {value!r}.")


def as_path(argument: str, value: Any) -> Path:
    """Return the path of a file or folder. Raises InvalidRequestError."""
    try:
        return Path(value)
    except TypeError:
        raise InvalidRequestError(
            f"`{argument}` must be a path, got {value!r} ({type(value).__name__})."
        ) from None

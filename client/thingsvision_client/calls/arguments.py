"""Arguments as users pass them, numpy's scalars and arrays included, checked and made plain."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from operator import index
from pathlib import Path
from reprlib import Repr
from typing import Any

from ..errors import InvalidRequestError

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def told(value: Any) -> str:
    """Return a value and its type for a sentence: short, and an array as its shape."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape != ():
        kind = type(value).__name__
        return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind} of shape {tuple(shape)}"
    if value is None or isinstance(value, bool):
        return repr(value)
    return f"{_SHORT.repr(value)} ({type(value).__name__})"


def is_text(value: Any) -> bool:
    """Tell whether a value is a text, or an array with only one."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return isinstance(value, str)


def is_path(value: Any) -> bool:
    """Tell whether a value is a path of texts, which may be on the disk or not."""
    try:
        return isinstance(os.fspath(value), str)
    except TypeError:
        return False


def is_whole(value: Any) -> bool:
    """Tell whether a value is a whole number, but not True or False."""
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return False
    try:
        if getattr(value, "shape", ()) == ():
            index(value)
            return True
    except (TypeError, RuntimeError, ValueError):
        pass
    return False


def expand_home(path: Any) -> Any:
    """Return a path with `~` or `~user` at its start expanded; any other value as it is."""
    if not isinstance(path, (str, Path)) or not str(path).startswith("~"):
        return path
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:  # the machine has no such user: a file may be called so
        return path
    return str(expanded) if isinstance(path, str) else expanded


def as_text(argument: str, value: Any) -> str:
    """Return a text, also of an array with only one. Raises InvalidRequestError."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, str):
        return str(value)
    raise InvalidRequestError(f"`{argument}` must be a text, got {told(value)}.")


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
    if not is_whole(value):
        raise InvalidRequestError(f"`{argument}` must be a whole number, got {told(value)}.")
    number = index(value)
    if smallest is not None and number < smallest:
        raise InvalidRequestError(f"`{argument}` must be at least {smallest}, got {number}.")
    return number


def choose(argument: str, value: Any, valid: Collection[str]) -> str:
    """Return a value that must be one of several texts. Raises InvalidRequestError."""
    if isinstance(value, str) and value in valid:
        return str(value)
    shown = repr(value) if isinstance(value, str) else told(value)
    raise InvalidRequestError(f"`{argument}` must be one of {', '.join(valid)}, got {shown}.")


def as_path(argument: str, value: Any) -> Path:
    """Return the path of a file or folder, `~` expanded. Raises InvalidRequestError."""
    if not is_path(value) or "\0" in os.fspath(value):
        raise InvalidRequestError(f"`{argument}` must be a path, got {told(value)}.")
    return Path(expand_home(value))


def as_folder(argument: str, value: Any) -> Path:
    """Return the path of a folder that exists or can be made. Raises InvalidRequestError."""
    path = as_path(argument, value)
    for above in (path, *path.parents):
        if above.is_dir():
            break
        if above.exists():
            raise InvalidRequestError(
                f"`{argument}` must be a folder, got {str(path)!r}: {above} is a file. Name a "
                "folder, which is made if it does not exist."
            )
    return path

"""Reads values of options as people write them: folders, shares, a port."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

MIB = 1024 * 1024


def _expand(value: Any) -> Any:
    """Return a path with the home directory for `~`; refuse an empty path: the current folder."""
    if value == "":
        raise ValueError("it must name a folder")
    try:
        return Path(value).expanduser() if isinstance(value, (str, Path)) else value
    except RuntimeError as error:
        raise ValueError("there is no such user") from error


def split_roots(value: Any) -> Any:
    """Return a text of folders, separated by commas, as a list; a folder may have a comma."""
    if isinstance(value, Path):
        return [str(value)]
    if isinstance(value, str) and not Path(value).expanduser().is_dir():
        value = value.split(",")
    value = [value] if isinstance(value, str) else value
    if isinstance(value, list) and not all(value):
        raise ValueError("it must name a folder")
    return value


def parse_share(value: Any) -> Any:
    """Return 1/8 as a number; refuse what is no share."""
    sentence = "it must be a share above 0 and at most 1, such as 1/8 or 0.125"
    try:
        found = float(Fraction(value.replace(" ", ""))) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(sentence) from error
    if found is not None and not 0 < found <= 1:
        raise ValueError(sentence)
    return found


def parse_metrics_port(value: Any) -> Any:
    """Return the number in a text; refuse what is neither a port nor `auto`."""
    try:
        found = value if value == "auto" else int(value)
    except (TypeError, ValueError):
        found = -1
    if found != "auto" and not 0 <= found <= 65535:
        raise ValueError("it must be a port from 0 to 65535, or auto")
    return found


Folder = Annotated[Path, BeforeValidator(_expand)]

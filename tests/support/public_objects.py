"""What users can name: everything exported, what the reference shows, and their methods."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import thingsvision_client
from thingsvision_client import vision

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PACKAGE = thingsvision_client.__name__

_DIRECTIVE = re.compile(r"^::: (\S+)$", re.MULTILINE)


def public_objects() -> dict[str, Any]:
    """Return functions, classes and methods by `module.qualname`, each once."""
    found: dict[str, Any] = {}
    for thing in _named():
        for one in (thing, *_methods(thing)):
            found[name_of(one)] = one
    return dict(sorted(found.items()))


def name_of(thing: Any) -> str:
    """Return a name without the package's."""
    return f"{thing.__module__}.{thing.__qualname__}".removeprefix(f"{PACKAGE}.")


def _named() -> Iterator[Any]:
    for module in (thingsvision_client, vision):
        for name in module.__all__:
            yield from _contents(getattr(module, name))
    for page in sorted(REFERENCE.glob("*.md")):
        for path in _DIRECTIVE.findall(page.read_text("utf-8")):
            yield from _contents(_imported(path))


def _imported(path: str) -> Any:
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


def _contents(thing: Any) -> Iterator[Any]:
    """Yield a function or class, or all functions and classes that a module defines."""
    if not isinstance(thing, ModuleType):
        yield thing
        return
    for name, one in vars(thing).items():
        is_defined_here = getattr(one, "__module__", "") == thing.__name__
        if is_defined_here and not name.startswith("_") and name not in ("to_record", "RECORDS"):
            yield one


def _methods(thing: Any) -> Iterator[Any]:
    """Yield the methods that a class has from this package, inherited ones included."""
    if not inspect.isclass(thing):
        return
    for name, one in inspect.getmembers(thing):
        is_ours = str(getattr(one, "__module__", None)).startswith(f"{PACKAGE}.")
        if not name.startswith("_") and is_ours and inspect.isroutine(one):
            yield one

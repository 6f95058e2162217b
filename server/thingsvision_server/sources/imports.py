"""Imports lazily what a table names as `module:name`."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

IMPORTS = threading.RLock()
"""Held while a library is imported: concurrent imports can see a half-initialised module."""


def import_named(path: str, package: str | None) -> Any:
    """Return an object of a module below a package, given as `module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(f".{module}", package), name)

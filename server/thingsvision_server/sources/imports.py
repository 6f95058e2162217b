"""Imports what a table names as `module:name`, when it is first asked for; knows no table."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

IMPORTS = threading.RLock()
"""Held while a library is imported: threads that import side by side can meet half of one."""


def import_named(path: str, package: str | None) -> Any:
    """Return what stands in a module below a package, by `module:name`."""
    module, _, name = path.partition(":")
    return getattr(import_module(f".{module}", package), name)

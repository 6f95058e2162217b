"""Attacks on a server: a new attack is one function with `@attack` in a file of this folder."""

from __future__ import annotations

import importlib
import pkgutil

from .registry import ATTACKS, Attack, Target, attack

for _found in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_found.name)

__all__ = ["ATTACKS", "Attack", "Target", "attack"]

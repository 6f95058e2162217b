"""The import path that the library gives extractors and the functions of `features`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..old_paths import add_old_paths, old_names
from .features import center_features, compress_features, normalize_features

__all__ = ["center_features", "compress_features", "normalize_features"]

_EXTRACTORS = ("get_extractor", "get_extractor_from_model")


def __getattr__(name: str) -> Any:
    """Return an extractor's function, which the library also has here."""
    if name not in _EXTRACTORS:
        return old_names(__name__)(name)
    return getattr(import_module(__name__.partition(".")[0]), name)


add_old_paths(__name__)

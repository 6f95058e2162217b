"""THINGSvision without torch: features and RDMs of vision models from a server, as numpy arrays.

Names load when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors
    from .client import Client, connect
    from .core.rsa import compute_rdm, correlate_rdms, plot_rdm
    from .extractor import get_extractor
    from .model import Model
    from .preprocessing import PreprocessingOverrides
    from .utils.data import DataLoader, ImageDataset
    from .utils.storing import save_features

__all__ = [
    "Client",
    "DataLoader",
    "ImageDataset",
    "Model",
    "PreprocessingOverrides",
    "compute_rdm",
    "connect",
    "correlate_rdms",
    "errors",
    "get_extractor",
    "plot_rdm",
    "save_features",
]

_HOMES = {
    "Client": "client",
    "DataLoader": "utils.data",
    "ImageDataset": "utils.data",
    "Model": "model",
    "PreprocessingOverrides": "preprocessing",
    "compute_rdm": "core.rsa",
    "connect": "client",
    "correlate_rdms": "core.rsa",
    "get_extractor": "extractor",
    "plot_rdm": "core.rsa",
    "save_features": "utils.storing",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module(f"{__name__}.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""The classes of PyTorch and Keras that a server's modules have, if the user has loaded them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ..values.records import ModuleInfo

_BASES: Mapping[str, Sequence[tuple[str, str]]] = {
    "pt": [("torch.nn", "Module")],
    "tf": [("keras.layers", "Layer"), ("tf_keras.layers", "Layer")],
}
"""Modules of Python and their class from which all modules or layers derive, by backend."""

_KERAS_MODULES = ("layers", "models", "src.models.functional", "src.engine.functional")
"""Modules of Python with classes of layers, in Keras 2 and 3."""


def class_of(module: ModuleInfo | None, backend: str) -> type | None:
    """Return the class of a module, or the nearest one above, that is loaded; nothing is imported.

    It has the name of the module's class, and derives from the nearest one if that is not loaded.
    It is `torch.nn.Module` or `keras.layers.Layer` for no module, and None if the framework is not
    loaded.
    """
    bases = list(_loaded_bases(backend))
    if not bases or module is None:
        return bases[0] if bases else None
    if not module.classes:
        return _rename_class(module.type, _layer_of(module.type, tuple(bases)))
    loaded = (_find_loaded(*name.rpartition(".")[::2]) for name in module.classes)
    nearest = next((kind for kind in loaded if kind and issubclass(kind, bases[0])), bases[0])
    return _rename_class(module.type, nearest)


@cache
def _rename_class(name: str, kind: type) -> type:
    """Return a class of that name: the given one, or one that derives from it without a change."""
    return kind if kind.__name__ == name else type(name, (kind,), {})


def is_framework_class(kind: Any) -> bool:
    """Whether `kind` is a class of modules or layers of a framework."""
    return isinstance(kind, type) and any(
        issubclass(kind, base) for backend in _BASES for base in _loaded_bases(backend)
    )


def _loaded_bases(backend: str) -> Iterator[type]:
    for module, name in _BASES.get(backend, ()):
        if base := _find_loaded(module, name):
            yield base


def _find_loaded(module: str, name: str) -> type | None:
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


@cache
def _layer_of(name: str, bases: Sequence[type]) -> type:
    """Return Keras's own class of that name, whose module depends on the version of Keras."""
    for base in bases:
        library = base.__module__.partition(".")[0]
        for place in _KERAS_MODULES:
            if found := _find_loaded(f"{library}.{place}", name):
                return found
    return bases[0]

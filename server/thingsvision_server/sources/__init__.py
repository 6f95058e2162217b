"""Where models come from: the table of sources; a source is imported when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from ..errors import UnknownSourceError, choices
from .base import ModelSource
from .context import SourceContext

SOURCES: Mapping[str, str] = {
    "timm": "timm:open_source",
    "torchvision": "torchvision:open_source",
}
"""Name of a source, and `module:function` (below this package) that opens it."""


class Sources:
    """The sources, each opened once, on first use."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._opened: dict[str, ModelSource] = {}
        self._opening = threading.Lock()

    def __getitem__(self, name: str) -> ModelSource:
        """Return the source of that name; raise UnknownSourceError."""
        if name not in SOURCES:
            sentence = f"there is no source {name!r}. {choices(name, SOURCES)}"
            raise UnknownSourceError(sentence, field="model.source", subject=name)
        with self._opening:
            if name not in self._opened:
                self._opened[name] = _opener(SOURCES[name])(self._context)
            return self._opened[name]

    def __iter__(self) -> Iterator[ModelSource]:
        """Open and yield every source."""
        return (self[name] for name in SOURCES)


def _opener(path: str) -> Callable[[SourceContext], ModelSource]:
    module, _, function = path.partition(":")
    opener: Callable[[SourceContext], ModelSource] = getattr(
        import_module(f".{module}", __name__), function
    )
    return opener

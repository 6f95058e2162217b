"""The table of model sources; each source is imported lazily, on first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase

from ..errors import UnknownSourceError, choices
from .base import ModelEntry, ModelSource
from .context import SourceContext
from .facts import read_facts
from .imports import IMPORTS, import_named
from .throttle import MAX_PAUSE_SECONDS, ImportThrottle

SOURCES: Mapping[str, str] = {
    "keras": "keras.source:open_source",
    "own": "own.source:open_source",
    "transformers": "hugging_face.source:open_source",
    "torchvision": "torchvision.source:open_source",
    "timm": "timm:open_source",
    "ssl": "ssl.source:open_source",
    "custom": "custom.source:open_source",
}
"""By name, the `module:function` below this package that opens the source.

A starting server opens them in this order, first the sources that don't need a library yet.
"""


class Sources:
    """The sources, each opened once, on first use."""

    def __init__(self, context: SourceContext, *, throttle_imports: bool = True) -> None:
        self._context = context
        self._opened: dict[str, ModelSource] = {}
        self._throttle = ImportThrottle(MAX_PAUSE_SECONDS if throttle_imports else 0)

    def __getitem__(self, name: str) -> ModelSource:
        """Return a source by its name; raise UnknownSourceError."""
        _check_source(name)
        if name not in self._opened:
            with IMPORTS:
                if name not in self._opened:
                    self._opened[name] = import_named(SOURCES[name], __name__)(self._context)
        return self._opened[name]

    def entries(self, source: str = "", name_glob: str = "") -> Iterator[ModelEntry]:
        """Yield the models of one source, or of all, whose names match a glob.

        Does not build a model, and imports a library only if `facts.json` was not written with
        the installed version. Raises UnknownSourceError.
        """
        for name in [_check_source(source)] if source else sorted(SOURCES):
            facts = read_facts(name, self._context.tensorflow.python)
            names = _filter_names(facts.names() if facts else self[name].names(), name_glob)
            if facts:
                yield from facts.entries(names, self._context.weights)
            else:
                yield from self[name].entries(names)

    def open_all(self) -> None:
        """Open every source before its first use; takes seconds, so run it in a separate thread."""
        with self._throttle.apply():
            for name in SOURCES:
                self[name]

    def pause_opening(self) -> AbstractContextManager[None]:
        """Make `open_all` wait while a list is sent; the body must not import anything."""
        return self._throttle.pause()


def _check_source(name: str) -> str:
    if name not in SOURCES:
        sentence = f"there is no source {name!r}. {choices(name, SOURCES)}"
        raise UnknownSourceError(sentence, field="model.source", subject=name)
    return name


def _filter_names(names: list[str], name_glob: str) -> list[str]:
    return [name for name in names if fnmatchcase(name, name_glob or "*")]

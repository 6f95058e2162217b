"""Where models come from: the table of sources; a source is imported when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase

from ..errors import UnknownSourceError, choices
from .base import ModelEntry, ModelSource
from .context import SourceContext
from .facts import read_facts
from .imports import IMPORTS, import_named
from .pause import ImportPause

SOURCES: Mapping[str, str] = {
    "keras": "keras.source:open_source",
    "own": "own.source:open_source",
    "transformers": "hugging_face.source:open_source",
    "torchvision": "torchvision.source:open_source",
    "timm": "timm:open_source",
    "ssl": "ssl.source:open_source",
    "custom": "custom.source:open_source",
}
"""Name of a source, and `module:function` (below this package) that opens it.

They are opened in this order when a server starts: first those that need no library yet.
"""


class Sources:
    """The sources, each opened once, on first use."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._opened: dict[str, ModelSource] = {}
        self._pause = ImportPause()

    def __getitem__(self, name: str) -> ModelSource:
        """Return the source of that name; raise UnknownSourceError."""
        _check_source(name)
        if name not in self._opened:
            with IMPORTS:
                if name not in self._opened:
                    self._opened[name] = import_named(SOURCES[name], __name__)(self._context)
        return self._opened[name]

    def entries(self, source: str = "", name_glob: str = "") -> Iterator[ModelEntry]:
        """Yield the models of one source or of all, by a glob on their names.

        No model is built; a library is opened only where the file of facts does not know it.
        Raises UnknownSourceError.
        """
        for name in [_check_source(source)] if source else sorted(SOURCES):
            facts = read_facts(name, self._context.tensorflow.python)
            names = _filter_names(facts.names() if facts else self[name].names(), name_glob)
            if facts:
                yield from facts.entries(names, self._context.weights)
            else:
                yield from self[name].entries(names)

    def open_all(self) -> None:
        """Open every source ahead of its first use, in a thread of its own; takes seconds."""
        with self._pause.importing():
            for name in SOURCES:
                self[name]

    def undisturbed(self) -> AbstractContextManager[None]:
        """Have `open_all` wait while a list is sent; nothing may be imported meanwhile."""
        return self._pause.hasty()


def _check_source(name: str) -> str:
    if name not in SOURCES:
        sentence = f"there is no source {name!r}. {choices(name, SOURCES)}"
        raise UnknownSourceError(sentence, field="model.source", subject=name)
    return name


def _filter_names(names: list[str], name_glob: str) -> list[str]:
    return [name for name in names if fnmatchcase(name, name_glob or "*")]

"""The table of model sources; each source is imported lazily, on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

from ..errors import ThingsvisionError, UnknownModelError, UnknownSourceError, choices
from ..inputs import IMAGE
from .base import DeclaringSource, ModelEntry, ModelKey, ModelSource, Pretrained, Uploaded
from .context import SourceContext
from .facts import read_facts
from .imports import IMPORTS, import_named
from .naming import elsewhere
from .throttle import MAX_PAUSE_SECONDS, ImportThrottle
from .uploads.damage import ContentChecks

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

RESPELLING = ("timm", "torchvision")
"""Sources whose libraries take other names than they list, such as `resnet50.a1_in1k`."""

_WILDCARDS = frozenset("*?[")


class Sources:
    """The sources, each opened once, on first use."""

    def __init__(self, context: SourceContext, *, throttle_imports: bool = True) -> None:
        self._context = context
        self._opened: dict[str, ModelSource] = {}
        self._uploads = ContentChecks(context.weights.uploads)
        self._throttle = ImportThrottle(MAX_PAUSE_SECONDS if throttle_imports else 0)

    def __getitem__(self, name: str) -> ModelSource:
        """Return a source by its name; raise UnknownSourceError."""
        _check_source(name)
        if name not in self._opened:
            with IMPORTS:
                if name not in self._opened:
                    self._opened[name] = import_named(SOURCES[name], __name__)(self._context)
        return self._opened[name]

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its model and weights named in full.

        Raises UnknownModelError, which also names the sources that have such a model, and
        UnknownWeightsError, also if an uploaded file was damaged on the disk.
        """
        key = self._resolve(key)
        if isinstance(key.weights, Uploaded):
            self._uploads.check(key.weights.sha256)
        return key

    def claim(self, key: ModelKey) -> Callable[[], None]:
        """Claim the uploaded file of a model until the returned function is called.

        Until then no server deletes it. Raises UnknownWeightsError if it is not there any more.
        """
        claims = self._context.claims
        if claims is None or not isinstance(key.weights, Uploaded):
            return _release_nothing
        path = self._context.weights.uploads / key.weights.sha256
        if not claims.take(path):
            claims.drop(path)
            self._context.weights.find_upload(key.weights.sha256)
        return _once(partial(claims.drop, path))

    def image_shape(self, key: ModelKey) -> tuple[int, ...] | None:
        """Return the shape of a model's images if it depends on who asks, else None."""
        source = self[key.source]
        return source.image_shape(key) if isinstance(source, DeclaringSource) else None

    def _resolve(self, key: ModelKey) -> ModelKey:
        try:
            return self[key.source].resolve(key)
        except UnknownModelError as error:
            others = {name: self._names(name) for name in SOURCES if name != key.source}
            if hint := elsewhere(key.name, others):
                fault, _, rest = str(error).partition(". ")
                sentence = f"{fault}; {hint}. {rest}"
                raise UnknownModelError(
                    sentence, field=error.field, subject=error.subject
                ) from error
            raise

    def _names(self, source: str) -> list[str]:
        """Return the names of a source's models, if that needs no library."""
        facts = read_facts(source, self._context.tensorflow.python)
        if facts:
            return facts.names()
        opened = self._opened.get(source)
        return opened.names() if opened else []

    def entries(self, source: str = "", name_glob: str = "") -> Iterator[ModelEntry]:
        """Yield the models of one source, or of all, whose names match a glob.

        If none does, and the glob is a name that a library resolves to another, yield that model,
        with the weights that the name means as the default.
        Does not build a model, and imports a library only if `facts.json` was not written with
        the installed version, or for such names. Raises UnknownSourceError.
        """
        found = self._entries(source, name_glob)
        first = next(found, None)
        if first is not None:
            yield first
            yield from found
        elif name_glob and not _WILDCARDS.intersection(name_glob):
            for name in [source] if source else SOURCES:
                yield from self._respell(name, name_glob)

    def _respell(self, source: str, name: str) -> Iterator[ModelEntry]:
        opened = self[source] if source in RESPELLING else None
        if opened is None:
            return
        try:
            key = opened.resolve(ModelKey(source, name, Pretrained("")))
        except ThingsvisionError:
            return
        own = opened.transforms(key)[IMAGE].spec.shape
        for entry in opened.entries([key.name]):
            pretrained = (
                replace(one, is_default=Pretrained(one.tag) == key.weights)
                for one in entry.pretrained
            )
            yield replace(entry, pretrained=tuple(pretrained), input_shape=own)

    def _entries(self, source: str, name_glob: str) -> Iterator[ModelEntry]:
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


def _release_nothing() -> None:
    """Do nothing: nothing was claimed."""


def _once(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that makes a call the first time only."""
    left = [call]

    def release() -> None:
        if left:
            left.pop()()

    return release


def _check_source(name: str) -> str:
    if name not in SOURCES:
        sentence = f"there is no source {name!r}. {choices(name, SOURCES)}"
        raise UnknownSourceError(sentence, field="model.source", subject=name)
    return name


def _filter_names(names: list[str], name_glob: str) -> list[str]:
    return [name for name in names if fnmatchcase(name, name_glob or "*")]

"""Reads and writes `facts.json`: what a list says about models whose library is not imported.

Libraries take seconds to import. `scripts/zoo` writes into the file what each library says about
its models, and the library's version; if another version is installed here, the file is not used.
Only lists read it: extraction always asks the libraries themselves.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from ..inputs import Preprocessing
from .base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, WeightsState
from .weights.folder import PublishedWeights, WeightsFolder

FILE = Path(__file__).with_name("facts.json")

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "custom": ("open-clip-torch", "timm", "torchvision", "transformers"),
    "keras": ("keras", "tf-keras"),
    "ssl": ("timm", "torchvision"),
    "timm": ("timm", "torchvision"),
    "torchvision": ("torchvision",),
}
"""Sources with the same models on every server, and the distributions that determine them."""

_IN_CHILD = ("keras",)
"""Sources whose libraries are imported by the interpreter of TensorFlow's process."""

_Json = dict[str, Any]
_Record = TypeVar("_Record", Preprocessing, PublishedWeights)


@dataclass(frozen=True)
class ModelFacts:
    """One model as the file describes it; `published` has the origin of each tag's weights."""

    entry: ModelEntry
    published: tuple[PublishedWeights, ...]

    def entry_with(self, weights: WeightsFolder) -> ModelEntry:
        """Return the entry with the state of each of its weights in a folder."""
        source, name = self.entry.source, self.entry.name
        pretrained = tuple(
            replace(one, state=weights.state(ModelKey(source, name, Pretrained(one.tag)), place))
            for one, place in zip(self.entry.pretrained, self.published, strict=True)
        )
        return replace(self.entry, pretrained=pretrained)


@dataclass(frozen=True)
class SourceFacts:
    """The models of one source as the file describes them."""

    source: str
    models: Mapping[str, _Json]
    preprocessings: tuple[Preprocessing, ...]

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return list(self.models)

    def entries(self, names: Iterable[str], weights: WeightsFolder) -> Iterator[ModelEntry]:
        """Yield the entries of these models, with the states of their weights in a folder."""
        snapshot = weights.snapshot()
        return (self[name].entry_with(snapshot) for name in names)

    def __getitem__(self, name: str) -> ModelFacts:
        """Return the facts of a model."""
        model = self.models[name]
        tags = [_Tag(*tag) for tag in model["tags"]]
        pretrained = (self._entry_of(tag, tag is tags[0]) for tag in tags)
        entry = ModelEntry(
            self.source,
            name,
            tuple(pretrained),
            backend=model["backend"],
            task=model["task"],
            parameter_count=model["parameter_count"],
            input_shape=tuple(model["input_shape"]),
        )
        return ModelFacts(entry, tuple(_record(PublishedWeights, tag.published) for tag in tags))

    def _entry_of(self, tag: _Tag, is_default: bool) -> PretrainedEntry:
        known = None if tag.preprocessing is None else self.preprocessings[tag.preprocessing]
        return PretrainedEntry(tag.name, is_default, WeightsState.MISSING, known)


@dataclass(frozen=True)
class _Tag:
    name: str
    preprocessing: int | None
    """Index into the file's list of preprocessings."""
    published: _Json


def read_facts(source: str, tensorflow_python: str = sys.executable) -> SourceFacts | None:
    """Return the facts of a source; None if the file was written with other library versions."""
    preprocessings, sources = _read_file()
    known = sources.get(source)
    elsewhere = source in _IN_CHILD and tensorflow_python != sys.executable
    if known is None or elsewhere or known["libraries"] != library_versions(source):
        return None
    return SourceFacts(source, known["models"], preprocessings)


@cache
def _read_file() -> tuple[tuple[Preprocessing, ...], _Json]:
    content = json.loads(FILE.read_text())
    shared = tuple(_record(Preprocessing, one) for one in content["preprocessings"])
    return shared, content["sources"]


def library_versions(source: str) -> dict[str, str]:
    """Return the versions of the distributions that determine a source's models."""
    found = {}
    for distribution in LIBRARIES[source]:
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = ""
    return found


def facts_json(models: Iterable[ModelFacts]) -> str:
    """Return the file's content: one line per model, shared preprocessings once."""
    shared: dict[Preprocessing, int] = {}
    sources: dict[str, dict[str, _Json]] = {}
    for facts in models:
        sources.setdefault(facts.entry.source, {})[facts.entry.name] = _model_json(facts, shared)
    parts = (
        f'"{source}": {{"libraries": {json.dumps(library_versions(source))}, "models": {{\n'
        + ",\n".join(f"{json.dumps(name)}: {_compact(known[name])}" for name in sorted(known))
        + "\n}}"
        for source, known in sources.items()
    )
    preprocessings = ",\n".join(_compact(_brief(one)) for one in shared)
    body = ",\n".join(parts)
    return f'{{"preprocessings": [\n{preprocessings}\n],\n"sources": {{\n{body}\n}}}}\n'


def _model_json(facts: ModelFacts, shared: dict[Preprocessing, int]) -> _Json:
    def number(own: Preprocessing | None) -> int | None:
        return None if own is None else shared.setdefault(own, len(shared))

    tags = [
        [one.tag, number(one.preprocessing), _brief(published)]
        for one, published in zip(facts.entry.pretrained, facts.published, strict=True)
    ]
    copied = ("task", "backend", "parameter_count", "input_shape")
    return {name: getattr(facts.entry, name) for name in copied} | {"tags": tags}


def _brief(record: Preprocessing | PublishedWeights) -> _Json:
    """Return the fields that differ from their defaults."""
    values = ((field, getattr(record, field.name)) for field in fields(record))
    return {field.name: value for field, value in values if value != field.default}


def _record(kind: type[_Record], brief: _Json) -> _Record:
    values: _Json = {name: tuple(v) if isinstance(v, list) else v for name, v in brief.items()}
    return kind(**values)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

"""What is known of models before their library is opened: a file that `scripts/zoo` wrote.

Libraries take seconds to import. The file holds what they said of their models, and with which
versions they were asked; with other versions installed here it says nothing. It serves lists
only: whatever is extracted comes from the libraries themselves.
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
"""Sources that have the same models on every server, and the distributions that decide them."""

_IN_CHILD = ("keras",)
"""Sources whose libraries belong to the interpreter of TensorFlow's process."""

_Json = dict[str, Any]
_Record = TypeVar("_Record", Preprocessing, PublishedWeights)


@dataclass(frozen=True)
class ModelFacts:
    """One model as the file has it; `published` tells of each of its tags where weights are."""

    entry: ModelEntry
    published: tuple[PublishedWeights, ...]

    def entry_with(self, weights: WeightsFolder) -> ModelEntry:
        """Return the entry with the states of its weights in that folder."""
        source, name = self.entry.source, self.entry.name
        pretrained = tuple(
            replace(one, state=weights.state(ModelKey(source, name, Pretrained(one.tag)), place))
            for one, place in zip(self.entry.pretrained, self.published, strict=True)
        )
        return replace(self.entry, pretrained=pretrained)


@dataclass(frozen=True)
class SourceFacts:
    """The models of one source as the file has them."""

    source: str
    models: Mapping[str, _Json]
    preprocessings: tuple[Preprocessing, ...]

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return list(self.models)

    def entries(self, names: Iterable[str], weights: WeightsFolder) -> Iterator[ModelEntry]:
        """Yield the entries of these models, with the states of their weights in that folder."""
        seen = weights.snapshot()
        return (self[name].entry_with(seen) for name in names)

    def __getitem__(self, name: str) -> ModelFacts:
        """Return what is known of a model."""
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
    """Its number in the file's list."""
    published: _Json


def read_facts(source: str, tensorflow_python: str = sys.executable) -> SourceFacts | None:
    """Return what the file says of a source; None where it was made with other libraries."""
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
    """Return the versions of the distributions that decide what models a source has."""
    found = {}
    for distribution in LIBRARIES[source]:
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = ""
    return found


def facts_json(models: Iterable[ModelFacts]) -> str:
    """Return the file's content: a line per model, what models share once."""
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
    taken = ("task", "backend", "parameter_count", "input_shape")
    return {name: getattr(facts.entry, name) for name in taken} | {"tags": tags}


def _brief(record: Preprocessing | PublishedWeights) -> _Json:
    """Return the fields that differ from what is meant when they are left out."""
    values = ((field, getattr(record, field.name)) for field in fields(record))
    return {field.name: value for field, value in values if value != field.default}


def _record(kind: type[_Record], brief: _Json) -> _Record:
    values: _Json = {name: tuple(v) if isinstance(v, list) else v for name, v in brief.items()}
    return kind(**values)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))

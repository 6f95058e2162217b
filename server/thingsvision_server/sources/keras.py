"""The source `keras`: every class of `keras.applications`, with its own family's preprocessing.

The classes are read off the package's files, so that nothing is imported before a model is asked
for. Classes that Keras 3 has no more (RegNet, ResNet-RS) come from its predecessor `tf_keras`.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from ..backends.base import RunnableModel, Structure
from ..backends.tensorflow import KerasNetwork, KerasSketch, KerasWeights, TensorFlowRuntime
from ..errors import (
    InvalidRequestError,
    InvalidWeightsError,
    UnknownModelError,
    UnknownWeightsError,
    WeightsMismatchError,
    choices,
)
from ..inputs import IMAGE, InputTransform
from .base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, Random, Uploaded
from .context import SourceContext
from .keras_images import keras_transform, preprocessing_of
from .weights import PublishedWeights, WeightsFolder

_PACKAGES = ("keras", "tf_keras")
_TAG = "imagenet"
_NAMED_BY_KERAS = PublishedWeights(url="named by Keras when it builds the model", library="keras")
_FIND = "import importlib.util as u, json, sys; specs = [u.find_spec(n) for n in sys.argv[1:]]"
_PRINT = "print(json.dumps([s and s.origin for s in specs]))"

_log = structlog.get_logger(__name__)


def open_source(context: SourceContext) -> KerasSource:
    """Open the source; TensorFlow starts when a model is asked for."""
    return KerasSource(context.tensorflow, context.weights)


class KerasSource:
    """A ModelSource over the classes that the interpreter's Keras has."""

    def __init__(self, runtime: TensorFlowRuntime, weights: WeightsFolder) -> None:
        self._runtime = runtime
        self._weights = weights
        self._package_of = _applications(runtime.python)
        self._sketches: dict[KerasNetwork, KerasSketch] = {}
        self._sketching = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all classes, sorted."""
        return sorted(self._package_of)

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield what there is to say of these models; more of those that were asked for before."""
        weights = self._weights.at_a_glance()
        return (self._entry(name, weights) for name in names)

    def _entry(self, name: str, weights: WeightsFolder) -> ModelEntry:
        key = ModelKey("keras", name, Pretrained(_TAG))
        known = self._sketches.get(self._network(key))
        published = _published(known) if known else _NAMED_BY_KERAS
        preprocessing = preprocessing_of(known) if known else None
        state = weights.state(key, published)
        return ModelEntry(
            "keras",
            name,
            (PretrainedEntry(_TAG, True, state, preprocessing),),
            backend="tf",
            task="classification",
            parameter_count=known.structure.modules[0].parameter_count if known else 0,
            input_shape=known.input_shape if known else (),
        )

    def published(self, name: str, tag: str) -> PublishedWeights:
        """Tell where the weights of a tag are published; TensorFlow is asked."""
        return _published(self._sketch(ModelKey("keras", name, Pretrained(tag))))

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise where there are none such."""
        if key.name not in self._package_of:
            hint = choices(key.name, self._package_of) or (
                f"Keras isn't installed for the interpreter {self._runtime.python}."
            )
            sentence = f"{key.source} has no model {key.name!r}. {hint}"
            raise UnknownModelError(sentence, field="model.name", subject=key.name)
        if isinstance(key.weights, Uploaded):
            self._weights.uploaded(key.weights.sha256)
        if isinstance(key.weights, Pretrained):
            return ModelKey(key.source, key.name, _known_tag(key.name, key.weights.tag))
        return key

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model."""
        sketch = self._sketch(key)
        if image_shape not in (None, sketch.input_shape):
            found, own = (" x ".join(map(str, s)) for s in (image_shape or (), sketch.input_shape))
            sentence = f"{key} takes images of {own} (height x width x channels), not {found}"
            raise InvalidRequestError(sentence, field="input")
        return sketch.structure

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return how a resolved model's inputs are made."""
        return {IMAGE: keras_transform(self._sketch(key))}

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build a resolved model with its weights on a device."""
        network, weights = self._network(key), self._located(key)
        file = "the uploaded file" if isinstance(key.weights, Uploaded) else weights.file
        try:
            return self._runtime.load(network, weights, device)
        except WeightsMismatchError as error:
            sentence = f"{file} does not fit {key.source}/{key.name}: {error}"
            raise WeightsMismatchError(sentence, field=error.field) from error
        except InvalidWeightsError as error:
            sentence = f"{file} can't be read as weights of Keras: {error}"
            raise InvalidWeightsError(sentence, field=error.field) from error

    def _located(self, key: ModelKey) -> KerasWeights:
        match key.weights:
            case Random(seed):
                return KerasWeights(seed=seed)
            case Uploaded(sha256):
                return KerasWeights(file=str(self._weights.uploaded(sha256)))
            case _:
                published = _published(self._sketch(key))
                return KerasWeights(file=str(self._weights.locate(key, published)))

    def _network(self, key: ModelKey) -> KerasNetwork:
        published = isinstance(key.weights, Pretrained)
        return KerasNetwork(self._package_of[key.name], key.name, published)

    def _sketch(self, key: ModelKey) -> KerasSketch:
        network = self._network(key)
        with self._sketching:
            if network not in self._sketches:
                self._sketches[network] = self._runtime.sketch(network)
            return self._sketches[network]


def _known_tag(name: str, tag: str) -> Pretrained:
    if tag not in ("", _TAG):
        sentence = f"{name} has no pretrained weights {tag!r}. {choices(tag, [_TAG])}"
        raise UnknownWeightsError(sentence, field="model.pretrained_tag", subject=tag)
    return Pretrained(_TAG)


def _published(sketch: KerasSketch) -> PublishedWeights:
    file = sketch.file
    if file is None:
        return PublishedWeights(library="keras")
    return PublishedWeights(file.url, cached_as=file.name, library="keras", digest=file.hash)


def _applications(python: str) -> dict[str, str]:
    """Return the package of each class of `applications`: the first one that has it."""
    found: dict[str, str] = {}
    for package, folder in _package_folders(python).items():
        for name in _classes(folder / "applications" / "__init__.py", package):
            found.setdefault(name, package)
    return found


def _classes(file: Path, package: str) -> Iterator[str]:
    """Yield the classes that a package's own file imports from its `src.applications`."""
    if not file.is_file():
        return
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(
            f"{package}.src.applications."
        ):
            yield from (alias.asname or alias.name for alias in statement.names)


def _package_folders(python: str) -> dict[str, Path]:
    """Return where an interpreter has the packages, without importing them."""
    origins = _own_origins() if python == sys.executable else _origins_of(python)
    found = zip(_PACKAGES, origins, strict=True)
    return {package: Path(origin).parent for package, origin in found if origin}


def _own_origins() -> list[str | None]:
    specs = [importlib.util.find_spec(package) for package in _PACKAGES]
    return [spec.origin if spec else None for spec in specs]


def _origins_of(python: str) -> list[str | None]:
    command = [python, "-c", f"{_FIND}; {_PRINT}", *_PACKAGES]
    try:
        run = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - a setting
        origins: list[str | None] = json.loads(run.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        _log.warning("no models of Keras: its interpreter fails", python=python, error=str(error))
        return [None] * len(_PACKAGES)
    return origins

"""Makes a source of models from classes of Keras' applications; knows none of them by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...backends.base import RunnableModel
from ...backends.modules import Structure
from ...backends.tensorflow.model import KerasArchitecture, KerasNetwork, KerasWeights
from ...errors import InvalidRequestError, InvalidWeightsError, WeightsMismatchError, format_shape
from ...inputs import IMAGE, InputTransform, Preprocessing
from ..base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, Random, Uploaded
from ..context import SourceContext
from ..naming import check_name, with_weights
from ..weights.folder import PublishedWeights, WeightsFolder
from .images import declared_transform, keras_transform

_NAMED_BY_KERAS = PublishedWeights(url="named by Keras when it builds the model", library="keras")


@dataclass(frozen=True)
class KerasModel:
    """A class of a package's `applications`, and whose weights and preprocessing it has."""

    package: str
    application: str
    tag: str = "imagenet"
    published: PublishedWeights | None = None
    """Where the tag's weights are; None: where Keras itself says."""
    preprocessing: Preprocessing | None = None
    """None: the class's own family's."""
    options: tuple[tuple[str, str | None], ...] = ()
    """Arguments for the class."""

    def network(self, *, pretrained: bool) -> KerasNetwork:
        """Return what is to be built."""
        by_keras = pretrained and self.published is None
        return KerasNetwork(self.package, self.application, by_keras, options=self.options)


class KerasSource:
    """A ModelSource over a table of models; `nothing` says why there is none, where there is none.

    TensorFlow is asked on first use, and once for each network.
    """

    def __init__(
        self,
        source: str,
        models: Mapping[str, KerasModel],
        context: SourceContext,
        *,
        nothing: str = "",
    ) -> None:
        self._source = source
        self._models = models
        self._runtime = context.tensorflow
        self._weights = context.weights
        self._nothing = nothing
        self._architectures: dict[KerasNetwork, KerasArchitecture] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all classes, sorted."""
        return sorted(self._models)

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield what there is to say of these models; more of those that were asked for before."""
        weights = self._weights.snapshot()
        return (self._entry(name, weights) for name in names)

    def _entry(self, name: str, weights: WeightsFolder) -> ModelEntry:
        model = self._models[name]
        key = ModelKey(self._source, name, Pretrained(model.tag))
        known = self._architectures.get(self._network(key))
        published = model.published or (_published(known) if known else _NAMED_BY_KERAS)
        own = _transform(model, known).preprocessing if known else model.preprocessing
        state = weights.state(key, published)
        return ModelEntry(
            self._source,
            name,
            (PretrainedEntry(model.tag, True, state, own),),
            backend="tf",
            task="classification",
            parameter_count=known.structure.modules[0].parameter_count if known else 0,
            input_shape=known.input_shape if known else (),
        )

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Tell where the weights of a tag are published; TensorFlow is asked."""
        own = self._models[name].published
        return own or _published(self._architecture(ModelKey(self._source, name, Pretrained(tag))))

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise where there are none such."""
        check_name(key, self._models, nothing=self._nothing)
        return with_weights(key, self._weights, lambda name: [self._models[name].tag])

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model."""
        architecture = self._architecture(key)
        own = architecture.input_shape
        if image_shape is not None and image_shape != own:
            wanted = f"images of {format_shape(own)} (height x width x channels)"
            sentence = f"{key} takes {wanted}, not {format_shape(image_shape)}"
            raise InvalidRequestError(sentence, field="input")
        return architecture.structure

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return how a resolved model's inputs are made."""
        return {IMAGE: _transform(self._models[key.name], self._architecture(key))}

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
                return KerasWeights(file=str(self._weights.find_upload(sha256)))
            case _:
                published = self.find_published(key.name, self._models[key.name].tag)
                return KerasWeights(file=str(self._weights.locate(key, published)))

    def _network(self, key: ModelKey) -> KerasNetwork:
        return self._models[key.name].network(pretrained=isinstance(key.weights, Pretrained))

    def _architecture(self, key: ModelKey) -> KerasArchitecture:
        network = self._network(key)
        with self._lock:
            if network not in self._architectures:
                self._architectures[network] = self._runtime.describe(network)
            return self._architectures[network]


def _transform(model: KerasModel, architecture: KerasArchitecture) -> InputTransform:
    if model.preprocessing is not None:
        return declared_transform(model.preprocessing)
    return keras_transform(architecture)


def _published(architecture: KerasArchitecture) -> PublishedWeights:
    file = architecture.file
    if file is None:
        return PublishedWeights(library="keras")
    return PublishedWeights(file.url, cached_as=file.name, library="keras", digest=file.hash)

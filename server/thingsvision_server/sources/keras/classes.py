"""A model source over classes of Keras' applications."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from ...backends.base import RunnableModel
from ...backends.modules import Structure
from ...backends.tensorflow.model import KerasArchitecture, KerasNetwork, KerasWeights
from ...errors import InvalidRequestError, InvalidWeightsError, WeightsMismatchError, format_shape
from ...inputs import IMAGE, InputTransform, Preprocessing
from ..base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, Random, Uploaded
from ..context import SourceContext
from ..naming import check_name, with_weights
from ..uploads.guests import guest_of_weights
from ..uploads.records import read_record
from ..weights.folder import PublishedWeights, WeightsFolder
from .images import keras_transform, unit_range_transform

_BY_KERAS = PublishedWeights(url="named by Keras when it builds the model", library="keras")


@dataclass(frozen=True)
class KerasModel:
    """A class of a package's `applications`, with its weights and preprocessing."""

    package: str
    application: str
    tag: str = "imagenet"
    published: PublishedWeights | None = None
    """Where the tag's weights are; None means where Keras itself finds them."""
    preprocessing: Preprocessing | None = None
    """None means the preprocessing of the class's own family."""
    options: tuple[tuple[str, str | None], ...] = ()
    """Arguments for the class."""

    def network(self, *, pretrained: bool) -> KerasNetwork:
        """Return the network to build."""
        by_keras = pretrained and self.published is None
        return KerasNetwork(self.package, self.application, by_keras, options=self.options)


class KerasSource:
    """A ModelSource over a table of models; `nothing` is the reason if the table is empty.

    TensorFlow is started on first use, and describes each network once.
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
        """Yield the entries of these models, with more details for architectures already known."""
        weights = self._weights.snapshot()
        return (self._entry(name, weights) for name in names)

    def _entry(self, name: str, weights: WeightsFolder) -> ModelEntry:
        model = self._models[name]
        key = ModelKey(self._source, name, Pretrained(model.tag))
        known = self._architectures.get(self._network(key))
        published = model.published or (_weights_location(known) if known else _BY_KERAS)
        own = self._transform(key, known).preprocessing if known else model.preprocessing
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
        """Return where the weights of a tag are published; this may start TensorFlow."""
        own = self._models[name].published
        key = ModelKey(self._source, name, Pretrained(tag))
        return own or _weights_location(self._architecture(key))

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise if there are no such weights."""
        check_name(key, self._models, nothing=self._nothing)
        return with_weights(key, self._weights, lambda name: [self._models[name].tag])

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model."""
        architecture = self._architecture(key)
        own = architecture.input_shape
        if image_shape is not None and image_shape != own:
            sentence = (
                f"images for {key} must be {format_shape(own)} (height x width x channels), "
                f"got {format_shape(image_shape)}"
            )
            raise InvalidRequestError(sentence, field="input")
        return architecture.structure

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the transform of a resolved model's images."""
        return {IMAGE: self._transform(key, self._architecture(key))}

    def _transform(self, key: ModelKey, architecture: KerasArchitecture) -> InputTransform:
        own = self._models[key.name].preprocessing
        if own is not None:
            return unit_range_transform(own)
        finish = partial(self._runtime.preprocess, self._network(key))
        return keras_transform(architecture, finish)

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build a resolved model with its weights on a device."""
        network, weights = self._network(key), self._weights_of(key)
        file, runtime = weights.file, self._runtime
        if isinstance(key.weights, Uploaded):
            folder, sha256 = self._weights.uploads, key.weights.sha256
            file = read_record(folder, sha256, field="model.weights_sha256").called
            # What reads a stranger's file holds no other models.
            guest = guest_of_weights(folder / sha256, self._weights.guests, runtime.template)
            runtime = runtime.confine(guest)
        try:
            return runtime.load(network, weights, device)
        except WeightsMismatchError as error:
            sentence = f"{file} does not fit {key.source}/{key.name}: {error}"
            raise WeightsMismatchError(sentence, field=error.field) from error
        except InvalidWeightsError as error:
            sentence = f"{file} can't be read as Keras weights: {error}"
            raise InvalidWeightsError(sentence, field=error.field) from error

    def _weights_of(self, key: ModelKey) -> KerasWeights:
        match key.weights:
            case Random(seed):
                return KerasWeights(seed=seed)
            case Uploaded(part=part) if part:
                raise InvalidRequestError(
                    f"the weights of {key.source}/{key.name} must be a whole file of Keras, got "
                    f"the part {part!r}: only PyTorch's files have parts",
                    field="model.weights_part",
                )
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


def _weights_location(architecture: KerasArchitecture) -> PublishedWeights:
    file = architecture.file
    if file is None:
        return PublishedWeights(library="keras")
    return PublishedWeights(file.url, cached_as=file.name, library="keras", digest=file.hash)

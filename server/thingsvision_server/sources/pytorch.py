"""Makes a source of models from a catalogue of PyTorch networks; knows no particular library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import structlog
import torch
from torch import nn

from ..backends.base import RunnableModel, Structure
from ..backends.seeding import isolated_random
from ..backends.structure import Tower, describe
from ..backends.torch import TorchModel
from ..errors import (
    InvalidRequestError,
    UnknownModelError,
    UnknownWeightsError,
    WeightsMismatchError,
    choices,
)
from ..inputs import IMAGE, InputSpec, InputTransform
from .base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, Random, Uploaded
from .weights import PublishedWeights, StateDict, WeightsFolder, read_state_dict

_DRY_RUN_ERRORS = (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError)

_log = structlog.get_logger(__name__)


class NetworkCatalogue(Protocol):
    """What a library of PyTorch networks knows of its models."""

    source: str

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""

    def tags(self, name: str) -> list[str]:
        """Return the tags of a model's pretrained weights, the default first."""

    def published(self, name: str, tag: str) -> PublishedWeights:
        """Tell where the weights of a tag are published."""

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the model's own preprocessing, by modality."""

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the part of a network that sees each modality; called with a batch of inputs."""

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights, as the library does without pretraining."""

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network as the library does for this tag, with these tensors for its file."""


class PyTorchSource:
    """A ModelSource over a catalogue."""

    def __init__(self, catalogue: NetworkCatalogue, weights: WeightsFolder) -> None:
        self._catalogue = catalogue
        self._weights = weights
        self._names = catalogue.names()

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return self._names

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield the entries of these models."""
        for name in names:
            tags = self._catalogue.tags(name)
            entries = (self._pretrained_entry(name, tag, tag == tags[0]) for tag in tags)
            yield ModelEntry(self._catalogue.source, name, tuple(entries))

    def _pretrained_entry(self, name: str, tag: str, is_default: bool) -> PretrainedEntry:
        key = ModelKey(self._catalogue.source, name, Pretrained(tag))
        state = self._weights.state(key, self._catalogue.published(name, tag))
        preprocessing = self._catalogue.transforms(key)[IMAGE].preprocessing
        return PretrainedEntry(tag, is_default, state, preprocessing)

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise where there are none such."""
        if key.name not in self._names:
            hint = choices(key.name, self._names)
            sentence = f"{key.source} has no model {key.name!r}. {hint}"
            raise UnknownModelError(sentence, field="model.name", subject=key.name)
        if isinstance(key.weights, Uploaded):
            self._weights.uploaded(key.weights.sha256)
        if isinstance(key.weights, Pretrained):
            return ModelKey(key.source, key.name, self._known_tag(key.name, key.weights.tag))
        return key

    def _known_tag(self, name: str, tag: str) -> Pretrained:
        tags = self._catalogue.tags(name)
        if tag in tags or (tags and not tag):
            return Pretrained(tag or tags[0])
        wanted = f"no pretrained weights {tag!r}" if tag else "no pretrained weights"
        hint = choices(tag, tags) or "Use random or uploaded weights."
        sentence = f"{name} has {wanted}. {hint}"
        raise UnknownWeightsError(sentence, field="model.pretrained_tag", subject=tag)

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a model, from passes that compute shapes only where that works."""
        specs = {kind: one.spec for kind, one in self._catalogue.transforms(key).items()}
        if image_shape is not None:
            specs[IMAGE] = replace(specs[IMAGE], shape=image_shape)
        try:
            with torch.device("meta"):
                return self._describe(key, specs)
        # A network that looks at values can't run on `meta`; what it raises then is its own.
        except _DRY_RUN_ERRORS as error:
            reason = str(error).partition("\n")[0]
        _log.info("dry run on the CPU", model=str(key), reason=reason)
        try:
            return self._describe(key, specs)
        except _DRY_RUN_ERRORS as error:
            if image_shape is None:
                raise
            size = " x ".join(map(str, image_shape))
            raise InvalidRequestError(
                f"{key} can't take inputs of {size}: {error}", field="input"
            ) from error

    def _describe(self, key: ModelKey, specs: Mapping[str, InputSpec]) -> Structure:
        network = self._skeleton(key)
        towers = self._catalogue.towers(network)
        return describe(network, {kind: Tower(towers[kind], spec) for kind, spec in specs.items()})

    def _skeleton(self, key: ModelKey) -> nn.Module:
        with isolated_random(0):
            network = self._catalogue.build(key.name)
            if isinstance(key.weights, Pretrained):
                state = network.state_dict()
                network = self._catalogue.build_pretrained(key.name, key.weights.tag, state)
        return network.eval()

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the model's own preprocessing, by modality."""
        return self._catalogue.transforms(key)

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build the model with its weights on a device."""
        network = self._network(key)
        return TorchModel(network, device, self._catalogue.towers(network))

    def _network(self, key: ModelKey) -> nn.Module:
        weights = key.weights
        if isinstance(weights, Random):
            with isolated_random(weights.seed):
                return self._catalogue.build(key.name)
        with isolated_random(0):
            if isinstance(weights, Uploaded):
                state = read_state_dict(self._weights.uploaded(weights.sha256))
                return _with_state(self._catalogue.build(key.name), state, key)
            path = self._weights.locate(key, self._catalogue.published(key.name, weights.tag))
            state = read_state_dict(path)
            try:
                return self._catalogue.build_pretrained(key.name, weights.tag, state)
            except RuntimeError as error:
                raise WeightsMismatchError(f"{path} does not fit {key}: {error}") from error


def _with_state(network: nn.Module, state: StateDict, key: ModelKey) -> nn.Module:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        # PyTorch's message lists the missing and the unexpected keys and the wrong shapes.
        raise WeightsMismatchError(
            f"the uploaded state dict does not fit {key.source}/{key.name}: {error}",
            field="model.weights_sha256",
        ) from error
    return network

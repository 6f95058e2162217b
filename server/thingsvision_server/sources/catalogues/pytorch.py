"""A model source over any catalogue of PyTorch networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog
import torch
from torch import nn

from ...backends.base import NetworkError, RunnableModel
from ...backends.modules import Structure
from ...backends.torch.model import TorchModel
from ...backends.torch.seeding import seed_thread
from ...backends.torch.skeleton import without_parameters
from ...backends.torch.structure import Tower, describe
from ...errors import WeightsMismatchError, input_shape_error, network_error
from ...inputs import IMAGE, InputSpec, InputTransform
from ..base import ModelEntry, ModelKey, Pretrained, PretrainedEntry, Random, Uploaded
from ..naming import check_name, with_weights
from ..weights.folder import PublishedWeights, WeightsFolder
from ..weights.loading import load_network
from ..weights.state_dicts import FileReader, StateDict, read_state_dict
from .uploaded import Recipe, load_uploaded

_DRY_RUN_ERRORS = (RuntimeError, NotImplementedError, ValueError, TypeError, AssertionError)

_log = structlog.get_logger(__name__)


class NetworkCatalogue(Protocol):
    """The models of a library of PyTorch networks, and how to build them."""

    source: str

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""

    def tags(self, name: str) -> list[str]:
        """Return the tags of a model's pretrained weights, the default first."""

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the model's own preprocessing, by modality."""

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the part of a network that takes each modality, to be called with a batch."""

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights, as the library does without pretraining."""

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network as the library does for this tag, with this state dict as its file."""


@runtime_checkable
class TaskCatalogue(Protocol):
    """A catalogue that knows the tasks of its models."""

    def task(self, name: str) -> str:
        """Return a model's task, e.g. `classification`."""


@runtime_checkable
class TaggedCatalogue(Protocol):
    """A catalogue whose networks differ between the tags of their weights."""

    def build_for(self, name: str, tag: str) -> nn.Module:
        """Build the network that the weights of a tag fit, with initialised weights."""


@runtime_checkable
class SpellingCatalogue(Protocol):
    """A catalogue of a library that takes other spellings of its models' names and weights."""

    def respell(self, key: ModelKey) -> ModelKey:
        """Return the key under the name and tag that the library resolves it to.

        A key that the library does not resolve is returned as it is.
        """

    def is_name(self, name: str) -> bool:
        """Tell whether `respell` gives such names, although `names` does not list them."""


@runtime_checkable
class FittingCatalogue(Protocol):
    """A catalogue whose networks have optional parts, which a state dict may lack."""

    def build_fitting(self, name: str, state: StateDict) -> nn.Module:
        """Build the network with the parts that a state dict has, with initialised weights."""


def _identity(_name: str, state: StateDict) -> StateDict:
    return state


class PyTorchSource:
    """A ModelSource over a catalogue.

    `read` reads a published weight file, and `may_be_keras` says whether uploaded files may be
    Keras', too; `convert` converts its state dict, published or uploaded, to the
    named network's; `parameter_counts` are known without building; `refused` maps names that
    users may know from elsewhere to why there is no such model.
    """

    def __init__(
        self,
        catalogue: NetworkCatalogue,
        weights: WeightsFolder,
        *,
        read: FileReader = read_state_dict,
        convert: Callable[[str, StateDict], StateDict] = _identity,
        parameter_counts: Mapping[str, int] | None = None,
        refused: Mapping[str, str] | None = None,
        may_be_keras: bool = False,
    ) -> None:
        self._catalogue = catalogue
        self._weights = weights
        self._names = catalogue.names()
        self._read_file = read
        self._convert = convert
        self._parameter_counts = parameter_counts or {}
        self._refused = refused or {}
        self._may_be_keras = may_be_keras

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return self._names

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield the entries of these models."""
        weights = self._weights.snapshot()
        return (self._entry(name, weights) for name in names)

    def _entry(self, name: str, weights: WeightsFolder) -> ModelEntry:
        catalogue, source = self._catalogue, self._catalogue.source
        pretrained: list[PretrainedEntry] = []
        default: InputTransform | None = None
        for tag in catalogue.tags(name):
            key = ModelKey(source, name, Pretrained(tag))
            state = weights.state(key, catalogue.find_published(name, tag))
            own = catalogue.transforms(key)[IMAGE]
            default = default or own
            pretrained.append(PretrainedEntry(tag, not pretrained, state, own.preprocessing))
        default = default or catalogue.transforms(ModelKey(source, name, Random(0)))[IMAGE]
        return ModelEntry(
            source,
            name,
            tuple(pretrained),
            task=catalogue.task(name) if isinstance(catalogue, TaskCatalogue) else "",
            parameter_count=self._parameter_counts.get(name, 0),
            input_shape=default.spec.shape,
        )

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""
        return self._catalogue.find_published(name, tag)

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise if there are no such weights."""
        catalogue = self._catalogue
        if isinstance(catalogue, SpellingCatalogue):
            key = catalogue.respell(key)
        if not (isinstance(catalogue, SpellingCatalogue) and catalogue.is_name(key.name)):
            check_name(key, self._names, refused=self._refused)
        return with_weights(key, self._weights, catalogue.tags)

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a model, from a forward pass on the `meta` device if possible."""
        transforms = self._catalogue.transforms(key)
        specs = {modality: transform.spec for modality, transform in transforms.items()}
        if image_shape is not None:
            specs[IMAGE] = replace(specs[IMAGE], shape=image_shape)
        for build in (self._skeleton, self._skeleton_with_values):
            try:
                with torch.device("meta"):
                    return self._describe(build(key), specs)
            # A network that depends on values can't run on `meta`; the error is its own.
            except _DRY_RUN_ERRORS as error:
                reason = str(error).partition("\n")[0]
        _log.info("dry run on the CPU", model=str(key), reason=reason)
        try:
            return self._describe(self._skeleton(key), specs)
        except NetworkError as error:
            if image_shape is None:
                called = f"{key.source}/{key.name}"  # whatever its weights
                raise network_error(called, error.shape, error) from error
            raise input_shape_error(key, image_shape, error) from error

    def _describe(self, network: nn.Module, specs: Mapping[str, InputSpec]) -> Structure:
        towers = self._catalogue.towers(network)
        return describe(
            network,
            {modality: Tower(towers[modality], spec) for modality, spec in specs.items()},
        )

    def _skeleton(self, key: ModelKey) -> nn.Module:
        catalogue, weights = self._catalogue, key.weights
        with seed_thread(0):
            if not isinstance(weights, Pretrained):
                return catalogue.build(key.name).eval()
            network = (
                catalogue.build_for(key.name, weights.tag)
                if isinstance(catalogue, TaggedCatalogue)
                else catalogue.build(key.name)
            )
            return catalogue.build_pretrained(key.name, weights.tag, network.state_dict()).eval()

    def _skeleton_with_values(self, key: ModelKey) -> nn.Module:
        with without_parameters():
            return self._skeleton(key).to("meta")

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the model's own preprocessing, by modality."""
        return self._catalogue.transforms(key)

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build the model with its weights on a device."""
        network, part = self._network(key)
        towers = self._catalogue.towers(network)
        return TorchModel(network, device, towers, weights_part=part)

    def _network(self, key: ModelKey) -> tuple[nn.Module, str]:
        """Return the network, and the part of an uploaded file that its weights are."""
        weights = key.weights
        if isinstance(weights, Random):
            with seed_thread(weights.seed):
                return self._catalogue.build(key.name), ""
        if isinstance(weights, Uploaded):
            recipe = Recipe(
                partial(self._convert, key.name),
                partial(self._build_fitting, key.name),
                may_be_keras=self._may_be_keras,
            )
            return load_uploaded(key, weights, self._weights, recipe)
        path = self._weights.locate(key, self._catalogue.find_published(key.name, weights.tag))
        network = load_network(
            lambda state: self._build_pretrained(key, weights.tag, state, path),
            lambda: self._convert(key.name, self._read_file(path)),
        )
        return network, ""

    def _build_fitting(self, name: str, state: StateDict) -> nn.Module:
        catalogue = self._catalogue
        if isinstance(catalogue, FittingCatalogue):
            return catalogue.build_fitting(name, state)
        return catalogue.build(name)

    def _build_pretrained(self, key: ModelKey, tag: str, state: StateDict, path: Path) -> nn.Module:
        try:
            return self._catalogue.build_pretrained(key.name, tag, state)
        except RuntimeError as error:
            raise WeightsMismatchError(f"{path} does not fit {key}: {error}") from error

"""A catalogue of networks that have one published checkpoint each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from ...inputs import IMAGE, InputTransform, Preprocessing
from ..base import ModelKey
from ..context import SourceContext
from ..preprocessing.transforms import IMAGENET, transform_of
from ..weights.folder import PublishedWeights
from ..weights.state_dicts import FileReader, StateDict, load_state, read_state_dict
from .pytorch import PyTorchSource


def without_prefix(prefix: str) -> Callable[[StateDict], StateDict]:
    """Return a function that removes a prefix from the keys of a state dict."""
    return lambda state: {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def drop_keys(state: StateDict, *prefixes: str) -> StateDict:
    """Return a state dict without the keys that begin with one of these prefixes."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


@dataclass(frozen=True)
class Checkpoint:
    """One network, and its weight file."""

    build: Callable[[], nn.Module]
    """Builds the network with initialised weights."""
    weights: PublishedWeights
    parameter_count: int
    convert: Callable[[StateDict], StateDict] = dict
    """Converts the file's state dict to the network's; unknown keys are kept."""


class CheckpointCatalogue:
    """A NetworkCatalogue over checkpoints that share one preprocessing, by default ImageNet's.

    That is 256 / 224 pixels, bilinear.
    """

    def __init__(
        self,
        source: str,
        tag: str,
        rows: Mapping[str, Checkpoint],
        preprocessing: Preprocessing = IMAGENET,
    ) -> None:
        self.source = source
        self._tag = tag
        self._rows = rows
        self._preprocessing = preprocessing

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._rows)

    def tags(self, name: str) -> list[str]:
        """Return the one tag."""
        return [self._tag]

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the checkpoint is published."""
        return self._rows[name].weights

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the preprocessing of all networks."""
        return {IMAGE: transform_of(self._preprocessing)}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the whole network as the image tower."""
        return {IMAGE: network}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        return self._rows[name].build()

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network with the converted tensors of its file."""
        return load_state(self.build(name), state)

    def convert(self, name: str, state: StateDict) -> StateDict:
        """Return a file's tensors under the network's names."""
        return self._rows[name].convert(state)

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network."""
        return {name: row.parameter_count for name, row in self._rows.items()}


def checkpoint_source(
    context: SourceContext,
    catalogue: CheckpointCatalogue,
    refused: Mapping[str, str] | None = None,
    *,
    read: FileReader = read_state_dict,
    may_be_keras: bool = False,
) -> PyTorchSource:
    """Return the source of a catalogue.

    `refused` maps names that users may know from elsewhere to why there is no such model.
    """
    return PyTorchSource(
        catalogue,
        context.weights,
        read=read,
        may_be_keras=may_be_keras,
        convert=catalogue.convert,
        parameter_counts=catalogue.parameter_counts(),
        refused=refused or {},
    )

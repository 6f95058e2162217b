"""A catalogue of networks of which each has one published checkpoint; knows none of them."""

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
    """Return what takes a prefix off the names of tensors that have it."""
    return lambda state: {name.removeprefix(prefix): tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class Checkpoint:
    """One network, and the file of its weights."""

    build: Callable[[], nn.Module]
    """Builds it with initialised weights."""
    weights: PublishedWeights
    parameter_count: int
    convert: Callable[[StateDict], StateDict] = dict
    """Turns the file's tensors into those of the network; names that it does not know stay."""


class CheckpointCatalogue:
    """A row for each network; all have one preprocessing, ImageNet's 256 / 224 bilinear."""

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
        """Tell where the checkpoint is published."""
        return self._rows[name].weights

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the preprocessing of all these networks."""
        return {IMAGE: transform_of(self._preprocessing)}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the network: all of it sees images."""
        return {IMAGE: network}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        return self._rows[name].build()

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network with the tensors of its file, converted."""
        return load_state(self.build(name), state)

    def converted(self, name: str, state: StateDict) -> StateDict:
        """Return the tensors of a file under the network's own names."""
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
) -> PyTorchSource:
    """Return the source of a catalogue; `refused` has names that users may know, and why not."""
    return PyTorchSource(
        catalogue,
        context.weights,
        read=read,
        convert=catalogue.converted,
        parameter_counts=catalogue.parameter_counts(),
        refused=refused or {},
    )

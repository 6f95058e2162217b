"""The family `DreamSim/...` of `custom`: networks fine-tuned on similarity judgements."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ....inputs import IMAGE, InputTransform, Preprocessing
from ...base import ModelKey
from ...catalogues.pytorch import PyTorchSource
from ...context import SourceContext
from ...preprocessing.transforms import transform_of
from ...weights.folder import PublishedWeights
from ...weights.state_dicts import StateDict, load_state
from .files import DreamSimFiles
from .networks import VARIANTS, DreamSim

_FAMILY = "DreamSim/"

_TAG = "nights"
"""The data set of similarity judgements on which the backbones were fine-tuned."""

_ARCHIVES = "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints"
_PREPROCESSING = Preprocessing(resize_pixels=(224, 224), interpolation="bicubic", antialias=True)
"""Without mean and std: each backbone normalises its own input."""


def open_source(context: SourceContext) -> PyTorchSource:
    """Open the family."""
    files = DreamSimFiles(context.weights)
    return PyTorchSource(DreamSimCatalogue(), context.weights, read=files.read)


class DreamSimCatalogue:
    """A NetworkCatalogue of the published networks."""

    source = "custom"

    def names(self) -> list[str]:
        """Return the names of all networks, sorted."""
        return sorted(f"{_FAMILY}{variant}" for variant in VARIANTS)

    def tags(self, name: str) -> list[str]:
        """Return the one tag."""
        return [_TAG]

    def task(self, name: str) -> str:
        """Return the task of all models."""
        return "image similarity"

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the archive is published."""
        variant = name.removeprefix(_FAMILY)
        return PublishedWeights(f"{_ARCHIVES}/dreamsim_{variant}_checkpoint.zip")

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the preprocessing of all variants."""
        return {IMAGE: transform_of(_PREPROCESSING)}

    def towers(self, network: nn.Module) -> Mapping[str, nn.Module]:
        """Return the whole network as the image tower."""
        return {IMAGE: network}

    def build(self, name: str) -> nn.Module:
        """Build the network with initialised weights."""
        return DreamSim(VARIANTS[name.removeprefix(_FAMILY)])

    def build_pretrained(self, name: str, tag: str, state: StateDict) -> nn.Module:
        """Build the network with these tensors."""
        return load_state(self.build(name), state)

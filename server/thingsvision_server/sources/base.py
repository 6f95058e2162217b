"""The words in which models are named, and what a source gives; knows no particular source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ..backends.base import RunnableModel
from ..backends.modules import Structure
from ..inputs import InputTransform, Preprocessing


@dataclass(frozen=True)
class Pretrained:
    """Weights that the source names by a tag; an empty tag is the source's default."""

    tag: str = ""

    def __str__(self) -> str:
        return self.tag or "default"


@dataclass(frozen=True)
class Uploaded:
    """A state dict that was uploaded, by the SHA-256 of its file."""

    sha256: str

    def __str__(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class Random:
    """Random initialisation; a seed gives the same weights everywhere."""

    seed: int

    def __str__(self) -> str:
        return f"random:{self.seed}"


Weights = Pretrained | Uploaded | Random


@dataclass(frozen=True)
class ModelKey:
    """One network with one set of weights."""

    source: str
    name: str
    weights: Weights

    def __str__(self) -> str:
        return f"{self.source}/{self.name}@{self.weights}"

    @staticmethod
    def parse(text: str) -> ModelKey:
        """Return the key whose text this is."""
        model, _, weights = text.partition("@")
        source, _, name = model.partition("/")
        kind, _, value = weights.partition(":")
        if kind == "random":
            return ModelKey(source, name, Random(int(value)))
        if kind == "sha256":
            return ModelKey(source, name, Uploaded(value))
        return ModelKey(source, name, Pretrained("" if weights == "default" else weights))


class WeightsState(Enum):
    """Whether pretrained weights can be used on this server."""

    PRESENT = "present"
    DOWNLOADABLE = "downloadable"
    MISSING = "missing"


@dataclass(frozen=True)
class PretrainedEntry:
    """One set of pretrained weights of a model."""

    tag: str
    is_default: bool
    state: WeightsState
    preprocessing: Preprocessing | None = None
    """The preprocessing of these weights; None where it is not known before they are loaded."""


@dataclass(frozen=True)
class ModelEntry:
    """One model of a source, its default pretrained weights first."""

    source: str
    name: str
    pretrained: tuple[PretrainedEntry, ...]
    backend: str = "pt"
    """The framework that runs it, `pt` or `tf`."""
    task: str = ""
    """What it was made for, e.g. `classification`; empty where that is not known."""
    parameter_count: int = 0
    """0 where it is not known without building the model."""
    input_shape: tuple[int, ...] = ()
    """Its own input size; empty where it is not known without building the model."""


class ModelSource(Protocol):
    """A place that models come from. All methods may block: call them off the event loop."""

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield what there is to say of these models without building them."""

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full.

        Raises UnknownModelError or UnknownWeightsError with near matches.
        """

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model; weights need not be there.

        `image_shape` is that of one image as an input, where it is not the model's own. Raises
        InvalidRequestError where the model can't take such images.
        """

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return how a resolved model's inputs are made, by modality."""

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build a resolved model with its weights on a device.

        Raises WeightsMissingError or WeightsMismatchError.
        """

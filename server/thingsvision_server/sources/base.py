"""How models and weights are named, and the protocol that every model source implements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from ..backends.base import RunnableModel
from ..backends.modules import Structure
from ..inputs import InputTransform, Preprocessing


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights, by the source's tag; an empty tag means the source's default."""

    tag: str = ""

    def __str__(self) -> str:
        return self.tag or "default"


@dataclass(frozen=True)
class Uploaded:
    """An uploaded state dict, by the SHA-256 of its file."""

    sha256: str
    part: str = ""
    """The part of the file, as `weights.parts` names it; empty: the part that fits."""

    def __str__(self) -> str:
        return f"sha256:{self.sha256}{self.part and f':{self.part}'}"


@dataclass(frozen=True)
class Random:
    """Random initialisation; the same seed gives the same weights on every machine."""

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

    def uses(self, weights: Weights) -> bool:
        """Return whether its weights are these, or another part of the same file."""
        own = self.weights
        if isinstance(own, Uploaded) and isinstance(weights, Uploaded):
            return own.sha256 == weights.sha256
        return own == weights

    @staticmethod
    def parse(text: str) -> ModelKey:
        """Return the key whose text this is."""
        model, _, weights = text.partition("@")
        source, _, name = model.partition("/")
        kind, _, value = weights.partition(":")
        if kind == "random":
            return ModelKey(source, name, Random(int(value)))
        if kind == "sha256":
            sha256, _, part = value.partition(":")
            return ModelKey(source, name, Uploaded(sha256, part))
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
    """The preprocessing of these weights; None if only loading them can tell."""


@dataclass(frozen=True)
class ModelEntry:
    """One model of a source, its default pretrained weights first."""

    source: str
    name: str
    pretrained: tuple[PretrainedEntry, ...]
    backend: str = "pt"
    """The framework that runs it, `pt` or `tf`."""
    task: str = ""
    """What it was trained for, e.g. `classification`; empty if unknown."""
    parameter_count: int = 0
    """0 if it is unknown until the model is built."""
    input_shape: tuple[int, ...] = ()
    """Its default input shape; empty if it is unknown until the model is built."""


class ModelSource(Protocol):
    """A place that models come from. All methods may block: call them off the event loop."""

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield the entries of these models without building them."""

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights spelled out, e.g. the default tag filled in.

        Raises UnknownModelError or UnknownWeightsError with near matches.
        """

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model, without needing its weights.

        `image_shape` is the shape of one input image if it differs from the model's default.
        Raises InvalidRequestError if the model can't take such images.
        """

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return the transforms that make a resolved model's inputs, by modality."""

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build a resolved model, with its weights, on a device.

        Raises WeightsMissingError or WeightsMismatchError.
        """


@runtime_checkable
class DeclaringSource(Protocol):
    """A source of models whose preprocessing people declare, each their own."""

    def image_shape(self, key: ModelKey) -> tuple[int, ...]:
        """Return the shape of one image by the declaration of whoever makes the call."""

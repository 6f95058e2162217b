"""Which network with which weights: what a user writes, and what the contract calls ModelSpec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.arguments import as_text, told
from ..errors import InvalidRequestError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Model:
    """A network and its weights.

    Attributes:
        source: Source of the model, such as `torchvision`; `own` for uploaded models.
        name: Name of the model in its source.
        weights: A pretrained tag of the source (also as a member of torchvision's enums),
            `random:SEED`, `sha256:HEX` of uploaded weights (`sha256:HEX:PART`, such as
            `sha256:HEX:ema`, takes one part of the file), or None (also `default`) for the source's
            default weights.

    Raises:
        InvalidRequestError: A field that can't be read.

    Example:
        ```python
        from thingsvision_client import Client, Model

        model = Model("torchvision", "resnet18", "random:0")
        print(Client().extract(model, "photos", "avgpool").features["avgpool"].shape)
        ```

    """

    source: str
    name: str
    weights: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tag_text(self.weights))
        for field in ("source", "name", "weights"):
            value = getattr(self, field)
            if not isinstance(value, str) and not (field == "weights" and value is None):
                raise InvalidRequestError(f"A model's `{field}` must be a text, got {told(value)}.")
        if not self.source or not self.name:
            raise InvalidRequestError(
                f"A model must be 'source/name', such as 'torchvision/resnet50', got {str(self)!r}."
            )
        self.to_spec()

    def __str__(self) -> str:
        return f"{self.source}/{self.name}" + (f"@{self.weights}" if self.weights else "")

    @staticmethod
    def parse(text: str) -> Model:
        """Read `source/name` or `source/name@weights`; a name may have further slashes.

        Args:
            text: The model as text, as methods of `Client` take it too.

        Returns:
            The model.

        Raises:
            InvalidRequestError: The text names no model, or its weights can't be read.

        Example:
            ```python
            from thingsvision_client import Model

            print(repr(Model.parse("custom/clip/ViT-B-32@openai")))
            ```

        """
        name, _, weights = as_text("text", text).partition("@")
        source, slash, name = name.partition("/")
        if not slash:
            raise InvalidRequestError(
                f"A model must be 'source/name', such as 'torchvision/resnet50', got {text!r}: "
                f"write its source before it. Client().models(name_glob={source!r}) lists the "
                "models of this name, with their sources."
            )
        return Model(source, name, weights or None)

    @staticmethod
    def from_spec(spec: pb.ModelSpec) -> Model:
        """Return the model of a message of the contract.

        Args:
            spec: The ModelSpec.

        Returns:
            The model.

        Example:
            ```python
            from thingsvision_client import Model
            from thingsvision_proto.v1.thingsvision_pb2 import ModelSpec

            print(Model.from_spec(ModelSpec(source="torchvision", name="alexnet", random_seed=0)))
            ```

        """
        part = spec.weights_part and f":{spec.weights_part}"
        weights = {
            "pretrained_tag": spec.pretrained_tag,
            "weights_sha256": f"sha256:{spec.weights_sha256}{part}",
            "random_seed": f"random:{spec.random_seed}",
            None: None,
        }[spec.WhichOneof("weights")]
        return Model(spec.source, spec.name, weights)

    def to_spec(self) -> pb.ModelSpec:
        """Return the message of the contract.

        Returns:
            The ModelSpec; its weights are unset for the default weights.

        Raises:
            InvalidRequestError: `weights` is malformed.

        Example:
            ```python
            from thingsvision_client import Model

            print(Model("torchvision", "alexnet", "random:0").to_spec())
            ```

        """
        kind, _, value = (self.weights or "").partition(":")
        if not kind or self.weights == "default":
            return pb.ModelSpec(source=self.source, name=self.name)
        if kind == "random":
            return pb.ModelSpec(source=self.source, name=self.name, random_seed=_seed(value))
        if kind == "sha256":
            sha256, _, part = value.partition(":")
            return pb.ModelSpec(
                source=self.source,
                name=self.name,
                weights_sha256=_sha256(sha256),
                weights_part=part,
            )
        return pb.ModelSpec(source=self.source, name=self.name, pretrained_tag=self.weights)


def tag_text(weights: Any) -> Any:
    """Return the text for a member of an enum of weights, as torchvision has them."""
    is_member = isinstance(weights, Enum)
    return f"{type(weights).__name__}.{weights.name}" if is_member else weights


def as_model(model: Model | str) -> Model:
    """Return the plain record of a model that a user gave as a `Model` or a string."""
    if isinstance(model, Model):
        return model if type(model) is Model else Model(model.source, model.name, model.weights)
    return Model.parse(as_text("model", model))


def _seed(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= _MAX_SEED:
        return int(text)
    raise InvalidRequestError(
        f"Weights 'random:SEED' must have a seed from 0 to 2**64 - 1, got 'random:{text}'."
    )


def _sha256(text: str) -> str:
    if _SHA256.fullmatch(text):
        return text
    raise InvalidRequestError(
        f"Weights 'sha256:HEX' must have 64 lower-case hexadecimal digits, got 'sha256:{text}'."
    )

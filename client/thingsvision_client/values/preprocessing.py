"""How images become inputs of a model, and what a request changes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import InvalidRequestError

_MOST = 2**32 - 1

_SIZES = ("resize_pixels", "crop_pixels")


@dataclass(frozen=True)
class Preprocessing:
    """How images became inputs: the fields of the contract's message, in the order applied.

    To declare it for a model of your own, leave out what does not apply; `antialias` and
    `description` are the server's to say.
    """

    resize_pixels: tuple[int, ...] = ()
    interpolation: str = ""
    antialias: bool = False
    crop_pixels: tuple[int, ...] = ()
    value_range: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    description: str = ""
    channel_order: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON knows them, in the order applied."""
        fields: dict[str, Any] = json.loads(self.to_json())
        return fields

    def to_json(self) -> str:
        """Return the fields as text, for the methods section of a paper."""
        return json.dumps(asdict(self), indent=2)


@dataclass(frozen=True)
class PreprocessingOverrides:
    """Overrides of a model's own preprocessing; None leaves a step as the model has it.

    `resize`: pixels of the shorter side, or (height, width). `crop`: pixels of the centre crop's
    sides, or (height, width); False for no crop. `interpolation`: `nearest`, `bilinear`, `bicubic`
    or `lanczos`. `mean` and `std`: 3 numbers each, of pixels from 0 to 1, in the model's own order
    of channels. Raises InvalidRequestError for other values.
    """

    resize: int | Sequence[int] | None = None
    crop: int | Sequence[int] | bool | None = None
    interpolation: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        self.to_message()

    def __str__(self) -> str:
        """Return the overrides, e.g. `resize=128, crop=False`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is overridden."""
        return not str(self)

    def to_message(self) -> pb.PreprocessingOverrides:
        """Return the message of the contract. Raises InvalidRequestError."""
        if self.crop is True:
            raise InvalidRequestError(
                "`crop` must be a size, False for no crop, or None for the model's own, got True."
            )
        no_crop = self.crop is False
        return pb.PreprocessingOverrides(
            resize_pixels=_sizes("resize", self.resize),
            crop_pixels=[] if no_crop else _sizes("crop", self.crop),
            no_crop=no_crop,
            interpolation=self.interpolation,
            mean=_channels("mean", self.mean),
            std=_channels("std", self.std),
        )


def _sizes(name: str, value: Any) -> list[int]:
    if value is None:
        return []
    sizes = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(sizes) in (1, 2) and all(_is_size(size) for size in sizes):
        return [int(size) for size in sizes]
    raise InvalidRequestError(
        f"`{name}` must be a number of pixels from 1, or (height, width), got {value!r}."
    )


def _is_size(size: Any) -> bool:
    return isinstance(size, Integral) and not isinstance(size, bool) and 1 <= int(size) <= _MOST


def _channels(name: str, value: Any) -> list[float]:
    if value is None:
        return []
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 3:
        return numbers
    raise InvalidRequestError(f"`{name}` must be a number for each of 3 channels, got {value!r}.")


def declaration(preprocessing: Preprocessing | Mapping[str, Any]) -> pb.Preprocessing:
    """Return the message of a declared preprocessing. Raises InvalidRequestError."""
    given = vars(preprocessing) if isinstance(preprocessing, Preprocessing) else preprocessing
    values: dict[str, Any] = dict(given)
    for name in _SIZES:
        if isinstance(values.get(name), int):
            values[name] = (values[name],)
    try:
        return pb.Preprocessing(**values)
    except (TypeError, ValueError) as error:
        valid = ", ".join(field.name for field in fields(Preprocessing))
        raise InvalidRequestError(
            f"The declared preprocessing can't be read: {error}. Valid: {valid}."
        ) from error

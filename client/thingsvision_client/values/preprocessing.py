"""How images become inputs of a model, and what a request changes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from typing import Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from .preprocessing_step import PreprocessingStep, used_fields, with_tuples

_MOST = 2**32 - 1

_SIZES = ("resize_pixels", "crop_pixels")


@check_arguments
@dataclass(frozen=True)
class Preprocessing:
    """How images became inputs: the fields of the contract's message, in the order applied.

    As `preprocessing` of a call it takes the place of the model's own, as a whole: what is left out
    is not done. To declare it for a model of your own, leave out what does not apply; `antialias`
    and `description` are the server's to say.

    Attributes:
        resize_pixels: Pixels of the shorter side after resizing, or (height, width); empty for no
            resizing.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.
        antialias: Whether resizing smooths what it makes smaller.
        crop_pixels: Pixels of the sides of the centre crop, or (height, width); empty for no crop.
        value_range: Values of a pixel after scaling: `0..1`, `0..255` or `-1..1`.
        mean: A number per channel, subtracted after scaling.
        std: A number per channel, by which the difference is divided.
        description: The steps, as the model's library prints them.
        channel_order: Order of the channels in the input, and of `mean` and `std`: `RGB` or `BGR`.
        steps: The steps, one by one, if the other fields can't say them; these are then a summary.
        owner: Whose it is, if not the model's own: another model's id, or `user`.

    Example:
        ```python
        from thingsvision_client import Client, Preprocessing

        whole = Preprocessing(resize_pixels=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        extraction = Client().extract(
            "torchvision/alexnet", "photos", "features.10", preprocessing=whole
        )
        print(extraction.provenance.preprocessing.description)
        ```

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
    steps: tuple[PreprocessingStep, ...] = ()
    owner: str = ""

    def __str__(self) -> str:
        """Return what the preprocessing does, in a line."""
        if self.description:
            return " ".join(self.description.split())
        shown = ", ".join(f"{key}={value!r}" for key, value in self.to_changes().items())
        return f"Preprocessing({shown})"

    @property
    def is_empty(self) -> bool:
        """False: even without any step it takes the place of the model's own."""
        return False

    def to_changes(self) -> dict[str, Any]:
        """Return the fields that are used, as JSON values, as files of features record them.

        Returns:
            The fields by name, without those that have their default; never empty.

        Example:
            ```python
            from thingsvision_client import Preprocessing

            print(Preprocessing(resize_pixels=(224, 224), value_range="0..1").to_changes())
            ```

        """
        used = {"value_range": self.value_range or "0..1", **used_fields(self)}
        if self.steps:
            used["steps"] = [step.to_dict() for step in self.steps]
        return used

    def to_message(self) -> pb.Preprocessing:
        """Return the message of the contract.

        Returns:
            The message.

        Raises:
            InvalidRequestError: A value that the contract does not have.

        Example:
            ```python
            from thingsvision_client import Preprocessing

            print(Preprocessing(resize_pixels=(224, 224)).to_message())
            ```

        """
        return declaration(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, in the order applied.

        Returns:
            The fields by name; tuples become lists.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().preprocessing("torchvision/alexnet").to_dict()["crop_pixels"])
            ```

        """
        fields: dict[str, Any] = json.loads(self.to_json())
        return fields

    def to_json(self) -> str:
        """Return the fields as JSON text, for the methods section of a paper.

        Returns:
            Indented JSON.

        Example:
            ```python
            from thingsvision_client import Client

            print(Client().preprocessing("torchvision/alexnet").to_json())
            ```

        """
        return json.dumps(asdict(self), indent=2)


@check_arguments
@dataclass(frozen=True)
class PreprocessingOverrides:
    """Overrides of a model's own preprocessing; None leaves a step as the model has it.

    Attributes:
        resize: Pixels of the shorter side, or (height, width).
        crop: Pixels of the sides of the centre crop, or (height, width); False for no crop.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`.
        mean: 3 numbers, of pixels from 0 to 1, in the model's own order of channels.
        std: 3 numbers, as `mean`.

    Raises:
        InvalidRequestError: Any other value.

    Example:
        ```python
        from thingsvision_client import Client, PreprocessingOverrides

        changes = PreprocessingOverrides(resize=(224, 224), crop=False)
        extraction = Client().extract(
            "torchvision/alexnet", "photos", "features.10", preprocessing=changes
        )
        print(extraction.provenance.preprocessing.resize_pixels)
        ```

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
        """Return the message of the contract.

        Returns:
            The message; what is not overridden is unset.

        Raises:
            InvalidRequestError: A value that the contract does not have.

        Example:
            ```python
            from thingsvision_client import PreprocessingOverrides

            print(PreprocessingOverrides(resize=128, crop=False).to_message())
            ```

        """
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
    raise InvalidRequestError(f"`{name}` must be 3 numbers, one per channel, got {value!r}.")


def declaration(preprocessing: Preprocessing | Mapping[str, Any]) -> pb.Preprocessing:
    """Return the message of a declared preprocessing. Raises InvalidRequestError."""
    given = vars(preprocessing) if isinstance(preprocessing, Preprocessing) else preprocessing
    values: dict[str, Any] = dict(given)
    for name in _SIZES:
        if isinstance(values.get(name), int):
            values[name] = (values[name],)
    try:
        values["steps"] = [_step_message(step) for step in values.get("steps", ())]
        return pb.Preprocessing(**values)
    except (TypeError, ValueError) as error:
        valid = ", ".join(field.name for field in fields(Preprocessing))
        raise InvalidRequestError(
            f"The declared preprocessing can't be read: {error}. Valid fields: {valid}."
        ) from error


def _step_message(step: Any) -> pb.PreprocessingStep:
    return pb.PreprocessingStep(**(vars(step) if isinstance(step, PreprocessingStep) else step))


def changes_of(written: Mapping[str, Any]) -> PreprocessingOverrides | Preprocessing:
    """Return what JSON says of a preprocessing: changes, or a complete one.

    Raises InvalidRequestError for a field that neither has.
    """
    changes, whole = (
        {one.name for one in fields(kind)} for kind in (PreprocessingOverrides, Preprocessing)
    )
    if set(written) <= changes:
        return PreprocessingOverrides(**written)
    if not set(written) <= whole:
        raise InvalidRequestError(
            f"`preprocessing` must have fields of PreprocessingOverrides ({', '.join(changes)}) or "
            f"of Preprocessing ({', '.join(whole)}), got {sorted(written)}."
        )
    values = with_tuples(written)
    steps = tuple(PreprocessingStep(**with_tuples(step)) for step in values.pop("steps", ()))
    return Preprocessing(**values, steps=steps)

"""A step of a preprocessing that is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..calls.signatures import check_arguments


@check_arguments
@dataclass(frozen=True)
class PreprocessingStep:
    """A step of torchvision's transforms as data: the fields of the contract's message.

    Attributes:
        kind: `resize`, `center_crop`, `pad`, `grayscale`, `to_tensor`, `pil_to_tensor`,
            `to_pil_image`, `convert_dtype`, `normalize` or `reverse_channels` (RGB to BGR).
        pixels: Of `resize`: the shorter side, or (height, width); of `center_crop`: (height,
            width); of `pad`: left, top, right and bottom.
        longest_pixels: Of `resize`: the longer side at most; 0 for no limit.
        interpolation: Of `resize`: the name of torchvision's InterpolationMode, such as `bicubic`.
        antialias: Of `resize`: whether shrinking a tensor smooths it; Pillow always does.
        element_type: Of `convert_dtype`: `uint8` or `float32`.
        scale: Of `convert_dtype`: whether values are scaled between 0..255 and 0..1.
        channel_count: Of `grayscale`: 1 or 3 channels.
        mean: Of `normalize`: a number per channel, subtracted.
        std: Of `normalize`: a number per channel, by which the difference is divided.
        fill: Of `pad`: a value for all channels, or one for each.
        padding_mode: Of `pad`: `constant`, `edge`, `reflect` or `symmetric`.
        is_v2: Whether it is a step of `torchvision.transforms.v2`, whose arithmetic on tensors
            differs in the last bits.

    Example:
        ```python
        from thingsvision_client import Client, Preprocessing
        from thingsvision_client.values.preprocessing_step import PreprocessingStep

        crop = PreprocessingStep("center_crop", pixels=(200, 200))
        resize = PreprocessingStep("resize", pixels=(224,), interpolation="bicubic", antialias=True)
        whole = Preprocessing(steps=(crop, resize, PreprocessingStep("to_tensor")))
        print(Client().preprocess("torchvision/alexnet", "photos", whole).inputs.shape)
        ```

    """

    kind: str
    pixels: tuple[int, ...] = ()
    longest_pixels: int = 0
    interpolation: str = ""
    antialias: bool = False
    element_type: str = ""
    scale: bool = False
    channel_count: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fill: tuple[float, ...] = ()
    padding_mode: str = ""
    is_v2: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that the step uses, as JSON values.

        Returns:
            The fields by name, without those that have their default; tuples become lists.

        Example:
            ```python
            from thingsvision_client.values.preprocessing_step import PreprocessingStep

            print(PreprocessingStep("center_crop", pixels=(224, 224)).to_dict())
            ```

        """
        return used_fields(self)


def used_fields(value: Any) -> dict[str, Any]:
    """Return the fields that do not have their default, as JSON values."""
    found = {one.name: getattr(value, one.name) for one in fields(value)}
    return {
        one.name: list(found[one.name]) if isinstance(found[one.name], tuple) else found[one.name]
        for one in fields(value)
        if found[one.name] != one.default
    }


def with_tuples(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields that JSON has, with tuples for its lists."""
    return {key: tuple(one) if isinstance(one, list) else one for key, one in written.items()}

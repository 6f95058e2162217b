"""Reads a user's preprocessing, step by step, as data that a server can apply.

Steps are recognised by the names and attributes of torchvision's transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..values.preprocessing import Preprocessing, declaration
from ..values.records import to_record

_WAY = "Preprocess the images yourself and send arrays (extractor.extract_batch), or leave it out."


def read_transforms(preprocess: Any) -> Preprocessing | None:
    """Return a user's preprocessing as a server applies it.

    It is a Preprocessing or such a dict, torchvision's `weights.transforms()`, or a Compose of
    steps in STEPS; None stays None. Raises InvalidRequestError, which names a step that a server
    can't apply.
    """
    if preprocess is None:
        return None
    if isinstance(preprocess, (Preprocessing, Mapping)):
        record: Preprocessing = to_record(declaration(preprocess))
        return record
    if type(preprocess).__name__ == _PRESET:
        return Preprocessing(**_of_preset(preprocess))
    return Preprocessing(**_of_steps(list(_steps(preprocess))))


def _steps(preprocess: Any) -> Iterator[Any]:
    inner = getattr(preprocess, "transforms", None)
    if inner is None and type(preprocess).__name__ == "Sequential":
        inner = preprocess
    if inner is None:
        yield preprocess
        return
    for step in inner:
        yield from _steps(step)


def _of_steps(steps: list[Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    last, last_name = 0, ""
    for step in steps:
        name = getattr(step, "__name__", type(step).__name__)
        if name in _TO_RGB:
            continue
        if name not in STEPS:
            raise _refusal(f"the step {step!r}, which is not one of {', '.join(STEPS)}")
        place, read = STEPS[name]
        if place <= last:
            raise _refusal(f"{name} after {last_name}")
        fields |= read(step)
        last, last_name = place, name
    return fields


def _of_preset(preset: Any) -> dict[str, Any]:
    return {
        "resize_pixels": _pixels(preset.resize_size),
        "interpolation": _value(preset.interpolation),
        "crop_pixels": _pixels(preset.crop_size),
        **_moments(preset),
    }


def _resize(step: Any) -> dict[str, Any]:
    if getattr(step, "max_size", None) is not None:
        raise _refusal(f"Resize with max_size={step.max_size}")
    return {"resize_pixels": _pixels(step.size), "interpolation": _value(step.interpolation)}


def _crop(step: Any) -> dict[str, Any]:
    return {"crop_pixels": _pixels(step.size)}


def _scale(_step: Any) -> dict[str, Any]:
    return {"value_range": "0..1"}


def _bytes(_step: Any) -> dict[str, Any]:
    return {"value_range": "0..255"}


def _float(step: Any) -> dict[str, Any]:
    if str(step.dtype) != "torch.float32":
        raise _refusal(f"{step!r}, but inputs must be float32")
    return _scale(step) if getattr(step, "scale", True) else {}


def _moments(step: Any) -> dict[str, Any]:
    return {name: tuple(float(x) for x in getattr(step, name)) for name in ("mean", "std")}


def _skip(_step: Any) -> dict[str, Any]:
    return {}


def _pixels(size: Any) -> tuple[int, ...]:
    return (int(size),) if isinstance(size, int) else tuple(int(side) for side in size)


def _value(interpolation: Any) -> str:
    return str(getattr(interpolation, "value", interpolation))


def _refusal(what: str) -> InvalidRequestError:
    return InvalidRequestError(f"`preprocess` has {what}: the server can't apply that. {_WAY}")


STEPS: dict[str, tuple[int, Callable[[Any], dict[str, Any]]]] = {
    "Resize": (1, _resize),
    "CenterCrop": (2, _crop),
    "ToTensor": (3, _scale),
    "MaybeToTensor": (3, _scale),
    "PILToTensor": (3, _bytes),
    "ToImage": (3, _bytes),
    "ConvertImageDtype": (4, _float),
    "ToDtype": (4, _float),
    "Normalize": (5, _moments),
    "ToPureTensor": (6, _skip),
}
"""Steps by the names of their classes: their place in the order, and how to read their fields."""

_PRESET = "ImageClassification"

_TO_RGB = frozenset({"RGB", "_convert_to_rgb", "_convert_image_to_rgb"})
"""Steps, classes or functions, that convert images to RGB, as the server always does."""

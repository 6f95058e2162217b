"""Transforms images with an image processor of the library `transformers`.

The processor itself runs, so the result is exact; the `Preprocessing` is read from its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import InvalidRequestError, format_shape
from ...inputs import InputSpec, InputTransform, Preprocessing
from ..preprocessing.transforms import transform_of

_SAMPLE_SIZE = 64, 64
_PROBE_SIZE = 97, 131
_PROBE_DIFFERENCE = 0.01
"""Mean difference allowed, as a share of the value range: some libraries round resized pixels."""

_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's constants for resampling filters."""

_BYTE = 255
_IMAGE_AXES = 3


def processor_transform(processor: Any) -> InputTransform:
    """Return the transform that runs an image processor; raise its own error for a grey image."""
    apply = partial(_pixel_values, processor)
    spec = InputSpec(tuple(apply(Image.new("RGB", _SAMPLE_SIZE, "grey")).shape))
    preprocessing = _preprocessing(processor)
    adapt = transform_of if _is_complete(preprocessing, apply) else None
    return InputTransform(apply, preprocessing, spec, adapt=adapt)


def fitting_transform(own: InputTransform, config: Any, name: str) -> InputTransform:
    """Return a processor's transform, or one that refuses images if the network takes others.

    The network may take images of another number of channels, or videos; its users can send arrays
    that they preprocessed, of the shape that the returned transform has.
    """
    if len(own.spec.shape) < _IMAGE_AXES:
        return own
    vision = getattr(config, "vision_config", None) or config
    channels, frames = getattr(vision, "num_channels", None), getattr(vision, "num_frames", None)
    *before, depth = own.spec.shape[:-2]
    sides = own.spec.shape[-2:]
    shape: tuple[int, ...]
    if isinstance(frames, int) and before:
        what, shape = f"videos of {frames} frames", (frames, depth, *sides)
    elif isinstance(channels, int) and channels != depth and not before:
        what, shape = f"images of {channels} channel(s)", (channels, *sides)
    else:
        return own

    def refuse(_image: Any) -> Any:
        raise InvalidRequestError(
            f"inputs of transformers/{name} must be {what}, and this server makes RGB images: send "
            f"arrays of {format_shape(shape)} that you preprocessed",
            field="header.tensors",
            subject=name,
        )

    return InputTransform(refuse, own.preprocessing, InputSpec(shape))


def lazy_processor_transform(
    open_processor: Callable[[], Any], preprocessing: Preprocessing, shape: tuple[int, ...]
) -> InputTransform:
    """Return the transform of a processor that is opened on first use: listing needs none."""
    opened = cache(open_processor)
    return InputTransform(
        lambda image: _pixel_values(opened(), image), preprocessing, InputSpec(shape)
    )


def _pixel_values(processor: Any, image: Image.Image) -> torch.Tensor:
    values: torch.Tensor = processor(images=image, return_tensors="pt")["pixel_values"]
    return values[0]


def _preprocessing(processor: Any) -> Preprocessing:
    fields = processor.to_dict()
    steps: dict[str, Any] = {}
    for switch, read in _READERS.items():
        if fields.get(switch):
            steps |= dict(read(fields))
    steps.setdefault("value_range", f"0..{_BYTE}")
    text = " ".join(processor.to_json_string().split())
    return Preprocessing(**steps, description=f"{type(processor).__name__} {text}")


_Read = Iterator[tuple[str, Any]]


def _resize(fields: Mapping[str, Any]) -> _Read:
    yield "resize_pixels", _pixels(fields.get("size"))
    yield "interpolation", _INTERPOLATIONS.get(fields.get("resample", -1), "")
    yield "antialias", True


def _crop(fields: Mapping[str, Any]) -> _Read:
    yield "crop_pixels", _pixels(fields.get("crop_size"))


def _rescale(fields: Mapping[str, Any]) -> _Read:
    most = _BYTE * fields.get("rescale_factor", 1 / _BYTE)
    least = -1 if fields.get("rescale_offset") else 0
    yield "value_range", f"{least}..{most + least:g}"


def _normalize(fields: Mapping[str, Any]) -> _Read:
    yield "mean", tuple(fields.get("image_mean") or ())
    yield "std", tuple(fields.get("image_std") or ())


_READERS: Mapping[str, Callable[[Mapping[str, Any]], _Read]] = {
    "do_resize": _resize,
    "do_center_crop": _crop,
    "do_rescale": _rescale,
    "do_normalize": _normalize,
}
"""The switch of each step, and the function that reads the step's fields."""


def _pixels(size: Any) -> tuple[int, ...]:
    """Return (shorter edge,), (height, width), or an empty tuple for any other rule."""
    known = {} if size is None else {k: v for k, v in dict(size).items() if v is not None}
    if set(known) == {"shortest_edge"}:
        return (known["shortest_edge"],)
    return (known["height"], known["width"]) if set(known) == {"height", "width"} else ()


def _is_complete(preprocessing: Preprocessing, apply: Callable[[Any], torch.Tensor]) -> bool:
    """Tell whether the `Preprocessing` alone reproduces what the processor computes."""
    if not (preprocessing.crop_pixels or preprocessing.resize_pixels):
        return False
    if preprocessing.resize_pixels and not preprocessing.interpolation:
        return False
    random = np.random.default_rng(0)
    width, height = _PROBE_SIZE
    probe = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    theirs, ours = apply(probe), transform_of(preprocessing).apply(probe)
    if theirs.shape != ours.shape:
        return False
    difference = (theirs - ours).abs().mean() / (ours.max() - ours.min())
    return bool(difference < _PROBE_DIFFERENCE)

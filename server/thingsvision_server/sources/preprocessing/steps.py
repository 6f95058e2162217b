"""Makes torchvision's own transforms from steps that are data, and runs them one after another.

torchvision is imported lazily, when steps are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import InvalidRequestError
from ...inputs import Preprocessing, PreprocessingStep
from .geometry import find_steps

_FIELD = "preprocessing.steps"

_MAX_STEPS = 32
_MAX_PIXELS = 4096

_MOST_BYTES = 1_600_000_000
"""Most bytes of all images that the steps make of a small one."""

_SAMPLE_SIDE = 97
"""Pixels of the sides of the image that steps are tried with: odd, and nobody's input size."""


class StepsTransform:
    """Applies steps to a Pillow RGB image; the result is a float32 tensor or array.

    Raises InvalidRequestError for steps that can't be done.
    """

    def __init__(self, steps: Sequence[PreprocessingStep], *, channels_last: bool) -> None:
        if len(steps) > _MAX_STEPS:
            sentence = f"`steps` must be at most {_MAX_STEPS}, got {len(steps)}"
            raise InvalidRequestError(sentence, field=_FIELD)
        _check_cost(steps)
        self._channels_last = channels_last
        self._steps = [_make(place, step) for place, step in enumerate(steps)]

    def __repr__(self) -> str:
        text = ", ".join(" ".join(repr(step).split()) for step in self._steps)
        return f"Compose({text})"

    def __call__(self, image: Any) -> Any:
        """Return the input made from an image."""
        import torch

        for step in self._steps:
            image = step(image)
        values = image.as_subclass(torch.Tensor)  # the steps of v2 have a class of their own
        return values.permute(1, 2, 0).contiguous().numpy() if self._channels_last else values

    def try_out(self) -> tuple[int, ...]:
        """Return the shape of a square image's input. Raises InvalidRequestError."""
        import torch
        from PIL import Image

        value: Any = Image.new("RGB", (_SAMPLE_SIDE, _SAMPLE_SIDE), "grey")
        for place, step in enumerate(self._steps):
            try:
                value = step(value)
            # torchvision raises any of these for a step that the value before it does not allow.
            except (TypeError, ValueError, RuntimeError, KeyError, AttributeError) as error:
                reason = str(error).partition("\n")[0]
                raise _error(place, f"can't be done here ({step}): {reason}") from error
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float32:
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            sentence = f"`steps` must end with a float32 tensor, got {kind}: add to_tensor"
            raise InvalidRequestError(sentence, field=_FIELD)
        channels, height, width = value.shape
        return (height, width, channels) if self._channels_last else (channels, height, width)


def _check_cost(steps: Sequence[PreprocessingStep]) -> None:
    """Raise InvalidRequestError if steps make too much of a small image."""
    sample = _SAMPLE_SIDE, _SAMPLE_SIDE
    cost = sum(step.byte_count for step in find_steps(Preprocessing(steps=tuple(steps)), sample))
    if cost > _MOST_BYTES:
        raise InvalidRequestError(
            f"`steps` must make images that take at most {_MOST_BYTES:,} bytes in all, got "
            f"{cost:,} for an image of {_SAMPLE_SIDE} x {_SAMPLE_SIDE} pixels: resize, crop and "
            "pad to fewer pixels",
            field=_FIELD,
        )


def _make(place: int, step: PreprocessingStep) -> Callable[[Any], Any]:
    if step.kind not in _MAKERS:
        raise _error(place, f"must be one of {', '.join(_MAKERS)}, got {step.kind!r}")
    sizes = (*step.pixels, step.longest_pixels)
    if max(sizes) > _MAX_PIXELS:
        raise _error(place, f"must have at most {_MAX_PIXELS} pixels, got {max(sizes)}")
    try:
        transform: Callable[[Any], Any] = _MAKERS[step.kind](step)
    # As above, for the values of a single step.
    except (TypeError, ValueError, RuntimeError, KeyError, IndexError) as error:
        reason = str(error).partition("\n")[0]
        raise _error(place, f"({step.kind}) is not valid: {reason}") from error
    return transform


def _error(place: int, fault: str) -> InvalidRequestError:
    return InvalidRequestError(f"step {place} {fault}", field=f"{_FIELD}[{place}]")


def _library(step: PreprocessingStep) -> Any:
    from torchvision import transforms
    from torchvision.transforms import v2

    return v2 if step.is_v2 else transforms


def _interpolation(name: str) -> Any:
    from torchvision.transforms import InterpolationMode

    return InterpolationMode(name)


def _size(pixels: tuple[int, ...]) -> Any:
    if 0 in pixels:
        raise ValueError(f"sizes must be at least 1, got {list(pixels)}")
    return pixels[0] if len(pixels) == 1 else list(pixels)


def _resize(step: PreprocessingStep) -> Any:
    return _library(step).Resize(
        _size(step.pixels) if step.pixels else None,
        interpolation=_interpolation(step.interpolation or "bilinear"),
        max_size=step.longest_pixels or None,
        antialias=step.antialias,
    )


def _center_crop(step: PreprocessingStep) -> Any:
    return _library(step).CenterCrop(_size(step.pixels))


def _pad(step: PreprocessingStep) -> Any:
    fill = step.fill[0] if len(step.fill) == 1 else step.fill
    whole = tuple(map(int, step.fill))
    if whole == step.fill:  # Pillow takes no fractions
        fill = whole[0] if len(whole) == 1 else whole
    return _library(step).Pad(list(step.pixels), fill or 0, step.padding_mode or "constant")


def _grayscale(step: PreprocessingStep) -> Any:
    return _library(step).Grayscale(step.channel_count)


def _to_tensor(_step: PreprocessingStep) -> Any:
    from torchvision import transforms

    return transforms.ToTensor()


def _pil_to_tensor(step: PreprocessingStep) -> Any:
    library = _library(step)
    return library.ToImage() if step.is_v2 else library.PILToTensor()


def _to_pil_image(step: PreprocessingStep) -> Any:
    return _library(step).ToPILImage()


def _convert_dtype(step: PreprocessingStep) -> Any:
    import torch
    from torchvision import transforms
    from torchvision.transforms import v2

    dtype = {"uint8": torch.uint8, "float32": torch.float32}[step.element_type]
    if not step.is_v2 and step.scale:
        return transforms.ConvertImageDtype(dtype)
    return v2.ToDtype(dtype, scale=step.scale)


def _normalize(step: PreprocessingStep) -> Any:
    if 0 in step.std:
        raise ValueError(f"std must not contain 0, got {list(step.std)}")
    return _library(step).Normalize(list(step.mean), list(step.std))


class _ReverseChannels:
    """Turns a tensor's channels from RGB to BGR, or back."""

    def __repr__(self) -> str:
        return "ReverseChannels()"

    def __call__(self, values: Any) -> Any:
        return values.flip(0)


_MAKERS: Mapping[str, Callable[[PreprocessingStep], Any]] = {
    "resize": _resize,
    "center_crop": _center_crop,
    "pad": _pad,
    "grayscale": _grayscale,
    "to_tensor": _to_tensor,
    "pil_to_tensor": _pil_to_tensor,
    "to_pil_image": _to_pil_image,
    "convert_dtype": _convert_dtype,
    "normalize": _normalize,
    "reverse_channels": lambda _step: _ReverseChannels(),
}
"""How torchvision's transform of each kind of step is made."""

"""Says steps as the fields of a Preprocessing, if these can say all that the steps do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .preprocessing import Preprocessing
from .preprocessing_step import PreprocessingStep

USER = "user"
"""Owner of a preprocessing that a user wrote."""

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


def preprocessing_of(steps: list[PreprocessingStep], description: str) -> Preprocessing:
    """Return the preprocessing of steps: as fields alone if these say all, else with the steps."""
    by_kind = {step.kind: step for step in reversed(steps)}
    resize, crop = by_kind.get("resize"), by_kind.get("center_crop")
    normalize = by_kind.get("normalize")
    scales = any(step.scale or step.kind == "to_tensor" for step in steps)
    fields = Preprocessing(
        resize_pixels=resize.pixels if resize else (),
        interpolation=resize.interpolation if resize else "",
        crop_pixels=crop.pixels if crop else (),
        value_range="0..1" if scales else "0..255",
        mean=normalize.mean if normalize else (),
        std=normalize.std if normalize else (),
        owner=USER,
    )
    if _are_fields(steps):
        return fields
    return replace(fields, steps=tuple(steps), description=description)


def _are_fields(steps: Sequence[PreprocessingStep]) -> bool:
    """Whether the fields of a Preprocessing say all that these steps do, to the last bit."""
    kinds = [_SHORT.get(_key(step), "?") for step in steps]
    text = "".join(kinds)
    resize = next((step for step in steps if step.kind == "resize"), None)
    if resize and (
        resize.longest_pixels or not resize.pixels or resize.interpolation not in _INTERPOLATIONS
    ):
        return False
    if any(len(step.mean) not in (0, 3) or len(step.std) not in (0, 3) for step in steps):
        return False
    return text in {
        f"{size}{scale}{end}"
        for size in ("", "r", "c", "rc")
        for scale in ("t", "bs", "bf")
        for end in ("", "n")
    }


def _key(step: PreprocessingStep) -> tuple[str, bool, bool]:
    return step.kind, step.scale, step.is_v2


_SHORT: Mapping[tuple[str, bool, bool], str] = {
    ("resize", False, False): "r",
    ("center_crop", False, False): "c",
    ("to_tensor", False, False): "t",
    ("pil_to_tensor", False, False): "b",
    ("pil_to_tensor", False, True): "b",
    ("convert_dtype", True, False): "s",
    ("convert_dtype", False, True): "f",
    ("normalize", False, False): "n",
    ("normalize", False, True): "n",
}
"""A letter for each kind of step, for comparison with the orders that fields can say."""

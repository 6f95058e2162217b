"""Reads a user's preprocessing, step by step, as data that a server can apply.

Steps are recognised by the library, the name and the attributes of their classes, so that neither
torch nor torchvision is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..errors import InvalidRequestError
from .preprocessing import Preprocessing, declaration
from .preprocessing_step import PreprocessingStep
from .records import to_record
from .step_fields import preprocessing_of

_WAY = "Preprocess the images yourself and send arrays (extractor.extract_batch), or leave it out."

_PILLOW, _BYTES, _FLOATS = "a Pillow image", "uint8 values", "float32 values"


def read_transforms(given: Any, called: str = "preprocess") -> Preprocessing | None:
    """Return a user's preprocessing as a server applies it.

    It is a Preprocessing or a mapping with its fields, a preset of torchvision's weights, or a
    Compose of steps in STEPS; None stays None. `called` is the argument's name. Raises
    InvalidRequestError, which names a step that a server can't apply.
    """
    if given is None:
        return None
    if isinstance(given, (Preprocessing, Mapping)):
        record: Preprocessing = to_record(declaration(given))
        return record
    reading = _Reading(called)
    for step in _flat(_check_given(given, called)):
        _read(reading, step)
    if reading.kind != _FLOATS:
        raise InvalidRequestError(
            f"`{called}` must end with float32 values, got {reading.kind} at the end of "
            f"{_shown(given)}: {_TO_FLOATS[reading.kind]}."
        )
    return preprocessing_of(reading.steps, " ".join(repr(given).split()))


def _check_given(given: Any, called: str) -> Any:
    """Return the argument; raise InvalidRequestError for what stands for steps but is none."""
    if isinstance(given, (list, tuple)):
        raise InvalidRequestError(
            f"`{called}` must be a Compose of steps, got a {type(given).__name__} of "
            f"{len(given)}: give torchvision.transforms.Compose(steps)."
        )
    maker = getattr(given, "func", None)  # of `weights.transforms`, which makes a preset
    if maker is not None and (maker.__module__, maker.__name__) in _PRESETS:
        raise InvalidRequestError(
            f"`{called}` must be a preset, got the function that makes it: call "
            "weights.transforms()."
        )
    if _library(given) == "torchvision" and callable(getattr(given, "transforms", None)):
        raise InvalidRequestError(
            f"`{called}` must be the preset of weights, got the weights {given}: give "
            f"{given}.transforms()."
        )
    return given


_TO_FLOATS = {
    _PILLOW: "add torchvision.transforms.ToTensor()",
    _BYTES: "add torchvision.transforms.v2.ToDtype(torch.float32, scale=True)",
}
"""The step that is missing, by what an image is after the others."""


@dataclass
class _Reading:
    """The steps so far, and what an image is after them."""

    called: str
    kind: str = _PILLOW
    channels: int = 3
    steps: list[PreprocessingStep] = field(default_factory=list)

    def add(self, kind: str, **fields: Any) -> None:
        """Add a step. On Pillow images torchvision has one arithmetic, whatever its version."""
        if self.kind == _PILLOW and kind != "pil_to_tensor":
            fields |= {"is_v2": False, **({"antialias": True} if kind == "resize" else {})}
        self.steps.append(PreprocessingStep(kind, **fields))

    def expect(self, step: Any, *kinds: str) -> None:
        """Refuse a step unless an image is of one of these kinds before it."""
        if self.kind not in kinds:
            expected = " or ".join(kinds)
            self.refuse(f"the step {_shown(step)} after {self.kind}, but it takes {expected}")

    def refuse(self, what: str) -> NoReturn:
        """Raise the error that says what a server can't apply, and what to do."""
        raise InvalidRequestError(
            f"`{self.called}` has {what}: the server can't apply that. {_WAY}"
        )


def _shown(step: Any) -> str:
    return " ".join(repr(step).split())


def _flat(given: Any) -> Iterator[Any]:
    """Yield the steps of nested Composes, Sequentials and presets."""
    library, name = _library(given), type(given).__name__
    if (library, name) == ("torch", "Sequential"):
        inner: Any = given
    elif library == "torchvision" and name == "Compose":
        inner = given.transforms
    elif (type(given).__module__, name) in _PRESETS:
        inner = _preset_steps(given)
    else:
        yield given
        return
    for step in inner:
        yield from _flat(step)


def _library(step: Any) -> str:
    return str(type(step).__module__).partition(".")[0]


def _read(reading: _Reading, step: Any) -> None:
    if isinstance(step, PreprocessingStep):  # of a preset
        _PRESET_READERS[step.kind](reading, step)
        return
    name = getattr(step, "__name__", type(step).__name__)
    if hasattr(step, "__name__") and name in _TO_RGB:
        reading.expect(step, _PILLOW)
        if reading.channels != 3:
            reading.refuse(f"the step {name} after Grayscale")
        return
    reader = STEPS.get(type(step).__name__) if _library(step) in _LIBRARIES else None
    if reader is None:
        reading.refuse(f"the step {_shown(step)}, {_why_not(step)}")
    reader(reading, step)


def _why_not(step: Any) -> str:
    name = type(step).__name__
    if name in _RANDOM or name.startswith("Random"):
        return "which is random, whereas features are of the images as they are"
    if hasattr(step, "__name__") and str(step.__module__).startswith("torchvision."):
        return "which is a function: use the class of that step"
    if name in ("Lambda", "partial") or hasattr(step, "__name__"):
        return "which is code of yours"
    if _library(step) not in _LIBRARIES:
        return f"whose class is not torchvision's but of the module {type(step).__module__}"
    return f"which is not one of {', '.join(STEPS)}"


def _is_v2(step: Any) -> bool:
    return str(type(step).__module__).startswith("torchvision.transforms.v2")


def _resize(reading: _Reading, step: Any) -> None:
    antialias = getattr(step, "antialias", False)  # older versions have "warn", which means none
    reading.add(
        "resize",
        pixels=() if step.size is None else _pixels(step.size),
        longest_pixels=getattr(step, "max_size", None) or 0,
        interpolation=_interpolation(step.interpolation),
        antialias=antialias is True,
        is_v2=_is_v2(step),
    )


def _center_crop(reading: _Reading, step: Any) -> None:
    sides = _pixels(step.size)
    reading.add("center_crop", pixels=sides if len(sides) == 2 else sides * 2, is_v2=_is_v2(step))


def _pad(reading: _Reading, step: Any) -> None:
    padding = [step.padding] if isinstance(step.padding, int) else list(step.padding)
    if any(side < 0 for side in padding):
        reading.refuse(f"the step {_shown(step)}, which crops")
    fill = step.fill
    if isinstance(fill, Mapping):
        reading.refuse(f"the step {_shown(step)}, whose fill depends on the type")
    reading.add(
        "pad",
        pixels=tuple(padding * (4 // len(padding)) if len(padding) < 4 else padding),
        fill=tuple(float(x) for x in (fill if isinstance(fill, Sequence) else [fill or 0])),
        padding_mode=str(getattr(step.padding_mode, "value", step.padding_mode)),
        is_v2=_is_v2(step),
    )


def _grayscale(reading: _Reading, step: Any) -> None:
    reading.channels = int(step.num_output_channels)
    reading.add("grayscale", channel_count=reading.channels, is_v2=_is_v2(step))


def _to_tensor(reading: _Reading, step: Any) -> None:
    if reading.kind != _PILLOW and (_is_v2(step) or type(step).__name__.startswith("Maybe")):
        return  # these leave tensors as they are
    reading.expect(step, _PILLOW)
    reading.add("to_tensor")
    reading.kind = _FLOATS


def _pil_to_tensor(reading: _Reading, step: Any) -> None:
    is_image = type(step).__name__ == "ToImage"
    if reading.kind != _PILLOW and (_is_v2(step) or type(step).__name__.startswith("Maybe")):
        return
    reading.expect(step, _PILLOW)
    reading.add("pil_to_tensor", is_v2=is_image)
    reading.kind = _BYTES


def _to_pil_image(reading: _Reading, step: Any) -> None:
    if reading.kind == _PILLOW and _is_v2(step):
        return
    reading.expect(step, _BYTES, _FLOATS)
    if step.mode not in (None, "RGB", "L"):
        reading.refuse(f"the step {_shown(step)}")
    reading.add("to_pil_image", is_v2=_is_v2(step))
    reading.kind = _PILLOW


def _convert_dtype(reading: _Reading, step: Any) -> None:
    if reading.kind == _PILLOW and _is_v2(step):
        return  # only tensors are converted
    reading.expect(step, _BYTES, _FLOATS)
    dtype = _dtype(step.dtype)
    if dtype is None or _KINDS.get(dtype) == reading.kind:
        return
    if dtype not in _KINDS:
        reading.refuse(f"the step {_shown(step)}, but inputs must be float32")
    element_type = dtype.removeprefix("torch.")
    scale = bool(getattr(step, "scale", True))
    reading.add("convert_dtype", element_type=element_type, scale=scale, is_v2=_is_v2(step))
    reading.kind = _KINDS[dtype]


def _dtype(given: Any) -> str | None:
    """Return the type that images become; a mapping has types by class, and `others`."""
    if isinstance(given, Mapping):
        named = {getattr(key, "__name__", key): value for key, value in given.items()}
        given = next((named[key] for key in ("Image", "Tensor", "others") if key in named), None)
    return None if given is None else str(given)


_KINDS: Mapping[str, str] = {"torch.uint8": _BYTES, "torch.float32": _FLOATS}


def _normalize(reading: _Reading, step: Any) -> None:
    reading.expect(step, _FLOATS)
    reading.add("normalize", **_moments(step), is_v2=_is_v2(step))


def _rgb(reading: _Reading, step: Any) -> None:
    if reading.channels != 3:
        reading.refuse(f"the step {_shown(step)} after Grayscale")


def _skip(_reading: _Reading, _step: Any) -> None:
    """Read a step that changes nothing."""


def _moments(step: Any) -> dict[str, Any]:
    values = {name: getattr(step, name) for name in ("mean", "std")}
    return {
        name: tuple(map(float, value if hasattr(value, "__iter__") else [value]))
        for name, value in values.items()
    }


def _pixels(size: Any) -> tuple[int, ...]:
    return (int(size),) if isinstance(size, int) else tuple(int(side) for side in size)


def _interpolation(given: Any) -> str:
    if isinstance(given, int):
        return _OF_PILLOW.get(given, str(given))
    return str(getattr(given, "value", given))


_OF_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def _preset_steps(preset: Any) -> list[Any]:
    """Return the steps of a preset of torchvision's weights; they have no classes of their own."""
    found: list[PreprocessingStep] = []
    if getattr(preset, "resize_size", None):
        pixels, interpolation = _pixels(preset.resize_size), _interpolation(preset.interpolation)
        found.append(PreprocessingStep("resize", pixels=pixels, interpolation=interpolation))
    if hasattr(preset, "crop_size"):
        sides = _pixels(preset.crop_size)
        found.append(PreprocessingStep("center_crop", pixels=sides * (3 - len(sides))))
    found.append(PreprocessingStep("to_tensor"))  # the same values as their two steps
    if hasattr(preset, "mean"):
        found.append(PreprocessingStep("normalize", **_moments(preset)))
    return list(found)


def _read_as_it_is(reading: _Reading, step: PreprocessingStep) -> None:
    reading.steps.append(step)


def _read_to_tensor(reading: _Reading, step: PreprocessingStep) -> None:
    reading.expect("the preset", _PILLOW)
    reading.steps.append(step)
    reading.kind = _FLOATS


_PRESET_READERS: Mapping[str, Callable[[_Reading, PreprocessingStep], None]] = {
    "resize": _read_as_it_is,
    "center_crop": _read_as_it_is,
    "to_tensor": _read_to_tensor,
    "normalize": _read_as_it_is,
}

_PRESETS = frozenset(
    ("torchvision.transforms._presets", name)
    for name in ("ImageClassification", "ObjectDetection", "SemanticSegmentation")
)

_LIBRARIES = frozenset({"torchvision", "timm", "torch"})

STEPS: Mapping[str, Callable[[_Reading, Any], None]] = {
    "Resize": _resize,
    "CenterCrop": _center_crop,
    "Pad": _pad,
    "Grayscale": _grayscale,
    "ToTensor": _to_tensor,
    "MaybeToTensor": _to_tensor,
    "PILToTensor": _pil_to_tensor,
    "MaybePILToTensor": _pil_to_tensor,
    "ToImage": _pil_to_tensor,
    "ToPILImage": _to_pil_image,
    "ConvertImageDtype": _convert_dtype,
    "ToDtype": _convert_dtype,
    "Normalize": _normalize,
    "RGB": _rgb,
    "Identity": _skip,
    "ToPureTensor": _skip,
}
"""How a step is read, by the name of its class."""

_RANDOM = frozenset(
    {"AugMix", "AutoAugment", "ColorJitter", "ElasticTransform", "GaussianNoise", "RandAugment",
     "ScaleJitter", "TrivialAugmentWide"}
)  # fmt: skip

_TO_RGB = frozenset({"_convert_to_rgb", "_convert_image_to_rgb"})
"""Functions of CLIP's libraries that convert images to RGB, as the server always does."""

"""Says what the axes of modules' outputs are, where the modules' classes show it.

The class of a convolution, a pooling or a normalisation says where its channels are. Other outputs
of three axes (of activations or sums) get the order in which their height and width are those of
such a module, if only one order fits. All other axes stay unknown: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TypeAlias

from ..inputs import TEXT, InputSpec
from .modules import CHANNELS, FEATURES, HEIGHT, TOKENS, UNKNOWN, WIDTH, Axes, CallInfo, ModuleInfo

CHANNELS_FIRST: Axes = (CHANNELS, HEIGHT, WIDTH)
CHANNELS_LAST: Axes = (HEIGHT, WIDTH, CHANNELS)
SEQUENCE: Axes = (TOKENS, FEATURES)

_Rule: TypeAlias = Callable[[ModuleInfo, CallInfo], Axes | None]
"""Returns the axes of a call's output, or None if it does not know them."""

_Sizes: TypeAlias = frozenset[tuple[int, int]]
"""Heights and widths of maps."""

_TORCH = "torch.nn.modules."
_TORCH_CLASSES = {
    "batchnorm": ("BatchNorm2d", "SyncBatchNorm"),
    "conv": ("Conv2d", "ConvTranspose2d"),
    "dropout": ("Dropout2d",),
    "instancenorm": ("InstanceNorm2d",),
    "normalization": ("CrossMapLRN2d",),
    "padding": ("CircularPad2d", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d"),
    "pixelshuffle": ("PixelShuffle", "PixelUnshuffle"),
    "pooling": (
        *("AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "FractionalMaxPool2d"),
        *("LPPool2d", "MaxPool2d", "MaxUnpool2d"),
    ),
    "upsampling": ("UpsamplingBilinear2d", "UpsamplingNearest2d"),
}
_ONNX_OPERATORS = (
    *("AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalLpPool"),
    *("GlobalMaxPool", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "MaxUnpool"),
)
_FIRST = frozenset(
    [
        *(f"{_TORCH}{file}.{name}" for file, names in _TORCH_CLASSES.items() for name in names),
        *_ONNX_OPERATORS,
    ]
)
"""Classes of PyTorch and operators of ONNX whose maps are channels x height x width."""

_LAST = frozenset(f"{_TORCH}{name}" for name in ("linear.Linear", "normalization.LayerNorm"))
"""Classes that compute along the last axis, which in a map is that of the channels."""

_KERAS = frozenset(
    [
        *("AveragePooling2D", "Conv2D", "Conv2DTranspose", "Cropping2D", "DepthwiseConv2D"),
        *("GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D", "SeparableConv2D"),
        *("SpatialDropout2D", "UpSampling2D", "ZeroPadding2D"),
    ]
)
"""Layers of Keras whose setting `data_format` says where the channels are."""


def with_axes(modules: Iterable[ModuleInfo], specs: Mapping[str, InputSpec]) -> list[ModuleInfo]:
    """Return modules whose calls say what their axes are; `specs` are the inputs by modality."""
    named = list(modules)
    for rule in (_by_class, _by_tokens(specs)):
        named = _apply(rule, named)
    named = _apply(_along_last_axis(_smaller(_sizes(named))), named)
    return _apply(_by_size(named), named)


def _apply(rule: _Rule, modules: Sequence[ModuleInfo]) -> list[ModuleInfo]:
    """Return modules with the axes that a rule finds of calls whose axes are still unknown."""

    def apply(module: ModuleInfo, call: CallInfo) -> CallInfo:
        if any(call.axes):
            return call
        axes = rule(module, call) or (UNKNOWN,) * len(call.shape)
        return call if axes == call.axes else replace(call, axes=axes)

    return [_with_calls(one, tuple(apply(one, call) for call in one.calls)) for one in modules]


def _with_calls(module: ModuleInfo, calls: tuple[CallInfo, ...]) -> ModuleInfo:
    """Return a module with these calls: itself if they are its own, as copies take a while."""
    is_same = all(one is other for one, other in zip(calls, module.calls, strict=True))
    return module if is_same else replace(module, calls=calls)


def _by_class(module: ModuleInfo, call: CallInfo) -> Axes | None:
    if len(call.shape) == 1:
        return (FEATURES,)
    if len(call.shape) != len(CHANNELS_FIRST):
        return None
    if not _FIRST.isdisjoint(module.classes or (module.type,)):
        return CHANNELS_FIRST
    if module.type in _KERAS and not module.classes:
        is_first = "data_format=channels_first" in module.attributes
        return CHANNELS_FIRST if is_first else CHANNELS_LAST
    return None


def _by_tokens(specs: Mapping[str, InputSpec]) -> _Rule:
    """Return a rule for token sequences: of images by their layout, of texts by their length."""
    text_length = specs[TEXT].shape[:1] if TEXT in specs else ()

    def rule(module: ModuleInfo, call: CallInfo) -> Axes | None:
        if len(call.shape) != len(SEQUENCE):
            return None
        is_sequence = module.prefix_tokens is not None and call.shape == module.last.shape
        is_text = module.modality == TEXT and call.shape[:1] == text_length
        return SEQUENCE if is_sequence or is_text else None

    return rule


def _along_last_axis(sizes: _Sizes) -> _Rule:
    """Return a rule for maps of channels last in PyTorch, which have one of the sizes."""

    def rule(module: ModuleInfo, call: CallInfo) -> Axes | None:
        if len(call.shape) != len(CHANNELS_LAST) or _LAST.isdisjoint(module.classes):
            return None
        # Some subclasses of LayerNorm take channels first.
        fits = call.shape[:2] in sizes and call.shape[1:] not in sizes
        return CHANNELS_LAST if fits else None

    return rule


def _by_size(modules: Sequence[ModuleInfo]) -> _Rule:
    """Return a rule for outputs that have the height and width of one of the maps known so far."""
    orders = {call.axes for _, call in _maps(modules)}
    sizes = _sizes(modules)
    # Attention of tokens to tokens is square, too.
    lengths = {one.last.shape[0] for one in modules if one.prefix_tokens is not None}

    def rule(_: ModuleInfo, call: CallInfo) -> Axes | None:
        if len(call.shape) != len(CHANNELS_FIRST):
            return None
        found = [axes for axes in orders if _size(call.shape, axes) in sizes]
        if len(found) != 1 or lengths.intersection(_size(call.shape, found[0])):
            return None
        return found[0]

    return rule


def _maps(modules: Iterable[ModuleInfo]) -> Iterator[tuple[ModuleInfo, CallInfo]]:
    """Yield the calls whose outputs are known to be maps."""
    for module in modules:
        for call in module.calls:
            if HEIGHT in call.axes:
                yield module, call


def _sizes(modules: Iterable[ModuleInfo]) -> _Sizes:
    return frozenset(_size(call.shape, call.axes) for _, call in _maps(modules))


def _size(shape: tuple[int, ...], axes: Axes) -> tuple[int, int]:
    return shape[axes.index(HEIGHT)], shape[axes.index(WIDTH)]


def _smaller(sizes: _Sizes) -> _Sizes:
    """Return sizes, and what halving them again and again gives, rounded up or down."""
    found, new = set(sizes), set(sizes)
    while new:
        halves = [product((h // 2, -(-h // 2)), (w // 2, -(-w // 2))) for h, w in new]
        new = {half for some in halves for half in some if 0 not in half} - found
        found |= new
    return frozenset(found)

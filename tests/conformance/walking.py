"""Walks one model: what the server takes of every module is what plain forward hooks see."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import prod
from typing import Any

import numpy as np
import torch
from walks import LISTED, RUN, Walk, versions
from zlib_ng.zlib_ng import crc32

from thingsvision_server.backends.base import RunnableModel
from thingsvision_server.backends.modules import ModuleInfo, Structure
from thingsvision_server.backends.taps import Tap, taps
from thingsvision_server.backends.torch.model import TorchModel
from thingsvision_server.backends.torch.structure import first_tensor
from thingsvision_server.errors import InvalidRequestError
from thingsvision_server.inputs import IMAGE, InputTransform
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, ModelSource

IMAGE_COUNT = 2
MOST_STATE_BYTES = 2 * 10**9
"""A model with more weights is not built: its modules are listed only."""

_SMALL_SHAPE = (3, 64, 64)
_GROUP_BYTES = 3 * 10**9
_TEXTS = ("a photo of a cat", "an aerial photo of two harbours")


def walk(sources: Sources, key: ModelKey, *, run: bool = True) -> Walk:
    """List a model's modules, run them all, and compare each with a hook; raise AssertionError."""
    started = time.monotonic()
    source = sources[key.source]
    structure = source.structure(key)
    own_shape = source.transforms(key)[IMAGE].spec.shape
    shape: tuple[int, ...] = ()
    if run and structure.state_bytes <= MOST_STATE_BYTES:
        shape, small = _smallest(source, key, own_shape, structure)
        check_forward(source, key, small, shape)
    return Walk(
        source=key.source,
        name=key.name,
        walked=RUN if shape else LISTED,
        parameters=root_of(structure).parameter_count,
        input_shape=list(own_shape),
        modules=len(structure.modules),
        extractable=sum(not module.reason for module in structure.modules),
        reasons=dict(Counter(map(kind_of_reason, filter(None, map(_reason, structure.modules))))),
        seconds=round(time.monotonic() - started, 1),
        date=datetime.now(UTC).date().isoformat(),
        versions=versions(key.source),
        run_shape=list(shape),
    )


def _smallest(
    source: ModelSource, key: ModelKey, own_shape: tuple[int, ...], structure: Structure
) -> tuple[tuple[int, ...], Structure]:
    """Return a small shape that a model takes, and its modules for it; else what is its own.

    Networks of tokens have one position for each, so these are not tried. Where small images
    change what can be extracted, the model's own size counts.
    """
    has_tokens = any(module.prefix_tokens is not None for module in structure.modules)
    if has_tokens or prod(own_shape) <= prod(_SMALL_SHAPE):
        return own_shape, structure
    try:
        small = source.structure(key, _SMALL_SHAPE)
    except InvalidRequestError:
        return own_shape, structure
    same = [m.name for m in small.modules if m.reason] == [
        m.name for m in structure.modules if m.reason
    ]
    return (_SMALL_SHAPE, small) if same else (own_shape, structure)


def root_of(structure: Structure) -> ModuleInfo:
    """Return the model itself."""
    return next(module for module in structure.modules if not module.name)


def _reason(module: ModuleInfo) -> str:
    return module.reason


def kind_of_reason(reason: str) -> str:
    """Return a reason without what differs from module to module."""
    return re.sub(r"(: shape \[| of [a-z0-9_]+[,;]).*", "", reason)


def check_forward(
    source: ModelSource, key: ModelKey, structure: Structure, image_shape: tuple[int, ...]
) -> None:
    """Run a model, and compare every module of it; raise AssertionError."""
    model = source.load(key, "cpu")
    try:
        for modality, transform in source.transforms(key).items():
            inputs = list(_inputs(transform, image_shape))
            seen = _seen(model, modality, inputs, structure)
            for group in _groups(structure, modality):
                _check_group(model, group, inputs, seen)
    finally:
        model.close()


def _inputs(transform: InputTransform, image_shape: tuple[int, ...]) -> Iterator[Any]:
    """Yield a tiny batch: noise for images, what the transform makes of texts."""
    if transform.spec.modality != IMAGE:
        yield from map(transform.apply, _TEXTS)
        return
    generator = np.random.default_rng(0)
    for _ in range(IMAGE_COUNT):
        if transform.spec.dtype == "uint8":
            yield generator.integers(0, 256, image_shape, np.uint8)
        else:
            yield generator.standard_normal(image_shape, np.float32)


def _groups(structure: Structure, modality: str) -> Iterator[tuple[Tap, ...]]:
    """Yield all that can be taken of a model, in groups that fit into memory together."""
    group: list[Tap] = []
    for name in _names(structure, modality):
        (tap,) = taps(structure, [name])
        if group and sum(t.row_bytes for t in [*group, tap]) * IMAGE_COUNT > _GROUP_BYTES:
            yield tuple(group)
            group = []
        group.append(tap)
    if group:
        yield tuple(group)


def _names(structure: Structure, modality: str) -> Iterator[str]:
    for module in structure.modules:
        if module.modality != modality:
            continue
        if not module.reason:
            yield module.name
        shapes = {call.shape for call in module.calls}
        if len(module.calls) > 1 and len(shapes) == 1 and not any(c.reason for c in module.calls):
            yield f"{module.name}@all"


def _check_group(
    model: RunnableModel, group: tuple[Tap, ...], inputs: list[Any], seen: _Seen | None
) -> None:
    rows = model.run([np.asarray(one)[np.newaxis] for one in inputs], group).rows
    for tap, found in zip(group, rows, strict=True):
        assert found.shape == (IMAGE_COUNT, *tap.output_shape), tap.name
        if seen is None:
            assert np.isfinite(found).all(), f"{tap.name} has values that are not finite"
        elif tap.is_stacked:
            calls = [_sums(found[:, call]) for call in range(found.shape[1])]
            assert calls == seen[tap.module], f"{tap.name} differs from what a hook sees"
        else:
            assert _sums(found) == seen[tap.module][-1], f"{tap.name} differs from what a hook sees"


_Seen = dict[str, list[list[int]]]
"""Of each module: for each of its calls, the checksums of all rows of its output."""


def _seen(
    model: RunnableModel, modality: str, inputs: list[Any], structure: Structure
) -> _Seen | None:
    """Return what hooks of a whole forward pass see; check that every module runs as listed.

    None where the network isn't PyTorch's. The outputs of all modules would not fit into memory.
    """
    if not isinstance(model, TorchModel):
        return None
    tower = model.towers[modality]
    modules = dict(model.network.named_modules())
    taken = {name.removesuffix("@all") for name in _names(structure, modality)}
    seen: _Seen = {name: [] for name in taken}
    runs: Counter[str] = Counter()
    with _hooks() as hook:
        for name, module in modules.items():
            hook(module, lambda _m, _i, _o, name=name: runs.update([name]))
        for name, sums in seen.items():
            hook(modules[name], lambda _m, _i, o, to=sums: to.append(_sums(_values(o))))
        with torch.inference_mode():
            tower(torch.stack([torch.as_tensor(one) for one in inputs]))
    for module in structure.modules:
        if module.modality == modality:
            assert runs[module.name] == len(module.calls), f"{module.name} ran so often"
    return seen


def _values(output: Any) -> Any:
    return first_tensor(output).to(torch.float32).numpy()


def _sums(rows: Any) -> list[int]:
    """Return a checksum of each row; both zeros have the same."""
    return [crc32(np.ascontiguousarray(row + np.float32(0))) for row in rows]


@contextmanager
def _hooks() -> Iterator[Any]:
    handles: list[Any] = []
    try:
        yield lambda module, hook: handles.append(module.register_forward_hook(hook))
    finally:
        for handle in handles:
            handle.remove()

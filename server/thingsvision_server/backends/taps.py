"""Taps: which outputs of a model's modules a request takes, resolved from the names it gives.

A name is that of a module, plus a step if the module runs several times in a pass: `V2.output@t=3`
is its fourth call, `V2.output@all` all of them along a leading axis, `V2.output` the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any

from ..errors import (
    InvalidRequestError,
    ModuleNeverRunsError,
    NotExtractableError,
    UnknownModuleError,
    choices,
)
from .modules import CALLS, FEATURES, UNKNOWN, Axes

if TYPE_CHECKING:
    from .modules import ModuleInfo, Structure

_STEP = re.compile(r"(?P<module>.*)@(?:t=(?P<call>\d+)|(?P<all>all))")


_WRAPPERS = frozenset({"module", "_orig_mod"})
"""What `nn.DataParallel` and `torch.compile` add to the names of a network's modules."""


class TokenExtraction(Enum):
    """Which tokens of a token sequence are taken; NONE: all of them."""

    NONE = ""
    CLS_TOKEN = "cls_token"  # noqa: S105 - no password
    """The first token."""
    AVG_POOL = "avg_pool"
    """The mean of the patch tokens."""
    CLS_TOKEN_AVG_POOL = "cls_token+avg_pool"  # noqa: S105
    """Both, concatenated."""


@dataclass(frozen=True)
class Tap:
    """The output of one module that a request takes, for one image."""

    name: str
    """As the request spells it."""
    module: str
    modality: str
    calls: tuple[int, ...]
    """Numbers of the calls to take, from 0."""
    is_stacked: bool
    """Whether all calls are taken, along a leading axis; otherwise there is one call."""
    call_shape: tuple[int, ...]
    """Shape of one call's output."""
    call_axes: Axes
    """What the axes of one call's output are."""
    tokens: TokenExtraction = TokenExtraction.NONE
    prefix_tokens: int = 0

    @property
    def output_axes(self) -> Axes:
        """What the axes of the values taken are."""
        axes = self.call_axes if self.tokens is TokenExtraction.NONE else (FEATURES,)
        return (CALLS, *axes) if self.is_stacked else axes

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the values taken."""
        shape = self.call_shape
        if self.tokens is not TokenExtraction.NONE:
            both = self.tokens is TokenExtraction.CLS_TOKEN_AVG_POOL
            shape = (shape[1] * (2 if both else 1),)
        return (len(self.calls), *shape) if self.is_stacked else shape

    @property
    def row_bytes(self) -> int:
        """Length of one image's row as float32, bytes."""
        return 4 * prod(self.output_shape)

    def reduce(self, output: Any) -> list[Any]:
        """Return the values taken of a call's output (images x shape), as parts to concatenate."""
        return [take(output, self.prefix_tokens) for take in _PARTS[self.tokens]]


def _all(output: Any, _prefix_tokens: int) -> Any:
    return output


def _class_token(output: Any, _prefix_tokens: int) -> Any:
    return output[:, 0]


def _patch_mean(output: Any, prefix_tokens: int) -> Any:
    return output[:, prefix_tokens:].mean(1)


_PARTS: Mapping[TokenExtraction, tuple[Any, ...]] = {
    TokenExtraction.NONE: (_all,),
    TokenExtraction.CLS_TOKEN: (_class_token,),
    TokenExtraction.AVG_POOL: (_patch_mean,),
    TokenExtraction.CLS_TOKEN_AVG_POOL: (_class_token, _patch_mean),
}


def taps(
    structure: Structure,
    names: Sequence[str],
    tokens: TokenExtraction = TokenExtraction.NONE,
) -> tuple[Tap, ...]:
    """Return the tap of each name, in order; raise if one can't be extracted."""
    if not names:
        raise InvalidRequestError(
            "`modules` must name at least one module, got none", field="modules"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        sentence = f"module {repeated[0]!r} is named twice; name each module once"
        raise InvalidRequestError(sentence, field="modules", subject=repeated[0])
    known = {module.name: module for module in structure.modules}
    found = tuple(_tap(name, known, tokens) for name in names)
    _check_one_modality(found)
    return found


def _check_one_modality(found: Sequence[Tap]) -> None:
    by_modality = {tap.modality: tap.name for tap in found}
    if len(by_modality) > 1:
        seen = ", ".join(f"{name!r} takes {kind}s" for kind, name in by_modality.items())
        sentence = (
            f"`modules` must all take images or all take texts, got: {seen}; request them "
            "separately"
        )
        raise InvalidRequestError(sentence, field="modules")


def _tap(name: str, known: Mapping[str, ModuleInfo], tokens: TokenExtraction) -> Tap:
    step = None if name in known else _STEP.fullmatch(name)
    module = _find_module(step["module"] if step else name, known)
    if not module.calls:
        sentence = f"module {name!r} can't be extracted: {module.reason}"
        raise ModuleNeverRunsError(sentence, field="modules", subject=name)
    calls = _calls(name, module, step)
    for call in calls:
        if module.calls[call].reason:
            raise _not_extractable(name, module.calls[call].reason)
    shapes = {module.calls[call].shape for call in calls}
    if len(shapes) > 1:
        listed = ", ".join(str(list(call.shape)) for call in module.calls)
        raise _not_extractable(
            name, f"its calls have different shapes ({listed}); request one call, e.g. @t=0"
        )
    stacked = bool(step and step["all"])
    call_axes = {module.calls[call].axes for call in calls}
    unknown = (UNKNOWN,) * len(module.calls[calls[0]].shape)
    tap = Tap(
        name=name,
        module=module.name,
        modality=module.modality,
        calls=calls,
        is_stacked=stacked,
        call_shape=shapes.pop(),
        call_axes=call_axes.pop() if len(call_axes) == 1 else unknown,
    )
    return tap if tokens is TokenExtraction.NONE else _with_tokens(tap, module, tokens)


def _find_module(name: str, known: Mapping[str, ModuleInfo]) -> ModuleInfo:
    if name not in known:
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if plain and plain in known:
            return known[plain]
        hint = _call_hint(name, known) or choices(name, filter(None, known))
        raise UnknownModuleError(
            f"the model has no module {name!r}. {hint}", field="modules", subject=name
        )
    return known[name]


def _call_hint(name: str, known: Mapping[str, ModuleInfo]) -> str:
    """Return how the calls of a module are named, if only that is wrong in a name."""
    called, found, _ = name.rpartition("@")
    if not found or called not in known:
        return ""
    last = len(known[called].calls) - 1
    return f"Calls of {called!r} are {called}@t=0 to {called}@t={last}, or all: {called}@all"


def _calls(name: str, module: ModuleInfo, step: re.Match[str] | None) -> tuple[int, ...]:
    count = len(module.calls)
    if step is None:
        return (count - 1,)
    if step["all"]:
        return tuple(range(count))
    call = int(step["call"])
    if call >= count:
        times, valid = (
            ("once", "@t=0") if count == 1 else (f"{count} times", f"@t=0 to @t={count - 1}")
        )
        sentence = f"module {module.name!r} runs {times}: the step must be {valid}, got {name!r}"
        raise UnknownModuleError(sentence, field="modules", subject=name)
    return (call,)


def _with_tokens(tap: Tap, module: ModuleInfo, tokens: TokenExtraction) -> Tap:
    shape = list(tap.call_shape)
    # The token layout is only known for the last call.
    if module.prefix_tokens is None or tap.call_shape != module.last.shape:
        raise _not_extractable(
            tap.name,
            f"{tokens.value} needs a module that outputs a token sequence; this one outputs "
            f"{shape}. Leave out token_extraction, or request a transformer block",
        )
    if not module.has_class_token and tokens is not TokenExtraction.AVG_POOL:
        raise _not_extractable(
            tap.name,
            f"its token sequence {shape} has no class token; use {TokenExtraction.AVG_POOL.value}",
        )
    return replace(tap, tokens=tokens, prefix_tokens=module.prefix_tokens)


def _not_extractable(name: str, why: str) -> NotExtractableError:
    sentence = f"module {name!r} can't be extracted: {why}"
    return NotExtractableError(sentence, field="modules", subject=name)

"""A model's modules, known without its weights: names, shapes, order and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..inputs import IMAGE

Axes: TypeAlias = tuple[str, ...]
"""What each axis of an output is."""

CHANNELS, HEIGHT, WIDTH, TOKENS, FEATURES = "channels", "height", "width", "tokens", "features"
CALLS = "calls"
"""The calls of a module in one forward pass, of `name@all`."""
UNKNOWN = ""


@dataclass(frozen=True)
class CallInfo:
    """One call of a module in a forward pass; `shape` is for one image, without the image axis."""

    shape: tuple[int, ...] = ()
    dtype: str = ""
    reason: str = ""
    """Why it can't be extracted; empty if it can."""
    axes: Axes = ()
    """What each axis of `shape` is; UNKNOWN if it is not known."""


@dataclass(frozen=True)
class ModuleInfo:
    """One module of a model, with its calls in one forward pass, in order."""

    name: str
    type: str
    attributes: str
    depth: int
    parent: str
    parameter_count: int
    calls: tuple[CallInfo, ...]
    reason: str = ""
    """Why its last call can't be extracted; empty if it can."""
    modality: str = IMAGE
    """The kind of input of its part of the model: `image` or `text`."""
    prefix_tokens: int | None = None
    """Special tokens before the patch tokens of its output; None: not a token sequence."""
    has_class_token: bool = False
    """Whether the first special token is the class token."""
    position: int = 0
    """Its place in the network's own order; 0 for all modules if that is the order of execution."""
    classes: tuple[str, ...] = ()
    """Its class and the framework's classes above, nearest first, with their Python modules."""

    @property
    def last(self) -> CallInfo:
        """Return the last call."""
        return self.calls[-1] if self.calls else CallInfo()


@dataclass(frozen=True)
class Structure:
    """A model without its weights: its modules in order of execution, and its size."""

    modules: tuple[ModuleInfo, ...]
    state_bytes: int
    """Length of all parameters and buffers, bytes."""
    is_provisional: bool = False
    """Whether it may still change: a file that decides what can be extracted is not here yet."""

"""What can be said of a model's modules without its weights: names, shapes, order, size."""

from __future__ import annotations

from dataclasses import dataclass

from ..inputs import IMAGE


@dataclass(frozen=True)
class CallInfo:
    """One call of a module in a forward pass; the shape is per image, without the image axis."""

    shape: tuple[int, ...] = ()
    dtype: str = ""
    reason: str = ""
    """Why it can't be extracted; empty where it can."""


@dataclass(frozen=True)
class ModuleInfo:
    """One module of a model, with its calls in one forward pass in their order."""

    name: str
    type: str
    attributes: str
    depth: int
    parent: str
    parameter_count: int
    calls: tuple[CallInfo, ...]
    reason: str = ""
    """Why its last call can't be extracted; empty where it can."""
    modality: str = IMAGE
    """What the part of the model that it belongs to sees."""
    prefix_tokens: int | None = None
    """Special tokens before those of patches in its output; None: it is no token sequence."""
    has_class_token: bool = False
    """Whether the first of them is the class token."""

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
    """Whether it may change: a file that decides what can be extracted is not here yet."""

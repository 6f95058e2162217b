"""Everything that can go wrong, as one tree; knows no gRPC (`rpc/status.py` has the table).

ThingsvisionError
├── InvalidRequestError        what was asked for makes no sense
│   ├── UnknownModuleError     the model has no such module
│   ├── NotExtractableError    the module's output is not one row per image
│   ├── ImageError             one image can't be used; names it
│   ├── InvalidWeightsError    an uploaded file is broken, or more than can be read without code
│   ├── WeightsMismatchError   a state dict does not fit the model
│   └── PCAMismatchError       a PCA was fitted on other features
├── NotFoundError
│   ├── UnknownSourceError  UnknownModelError  UnknownWeightsError  UnknownImageError
│   ├── UnknownPCAError
│   └── NotResidentError       the model is not in memory
├── PreconditionError          right request, wrong state
│   ├── WeightsMissingError    pretrained weights are not on this server
│   ├── ModelTooLargeError     the model can never fit the device's budget
│   ├── ModelInUseError        the model is used or pinned, so it can't be unloaded
│   └── ModuleNeverRunsError   the module takes no part in a forward pass
├── ExhaustedError             a limit of the server was met
│   ├── DeviceMemoryError      the device ran out of memory for one single image
│   └── StorageError           the disk for weights or spilled features is full
├── UnavailableError
│   ├── BackendCrashedError    the process that ran the model ended; try again
│   └── DrainingError          the server is shutting down
└── ChecksumError              bytes arrived other than they were sent
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class ThingsvisionError(Exception):
    """The root. `field` is the request field at fault, `subject` the value that is wrong."""

    def __init__(self, message: str, *, field: str = "", subject: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.subject = subject


class InvalidRequestError(ThingsvisionError):
    """What was asked for makes no sense."""


class UnknownModuleError(InvalidRequestError):
    """The model has no such module."""


class NotExtractableError(InvalidRequestError):
    """The module's output is not one row per image."""


class ImageError(InvalidRequestError):
    """One image can't be used."""


class InvalidWeightsError(InvalidRequestError):
    """A file is broken, of no known format, or can't be used without running code."""


class WeightsMismatchError(InvalidRequestError):
    """A state dict does not fit the model."""


class PCAMismatchError(InvalidRequestError):
    """A PCA was fitted on other features than those that it should reduce."""


class NotFoundError(ThingsvisionError):
    """The server does not know what was named."""


class UnknownSourceError(NotFoundError):
    """There is no such source."""


class UnknownModelError(NotFoundError):
    """The source has no such model."""


class UnknownWeightsError(NotFoundError):
    """The model has no such pretrained tag, or no such file was uploaded."""


class UnknownImageError(NotFoundError):
    """The server does not have that image."""


class UnknownPCAError(NotFoundError):
    """The server keeps no PCA of that SHA-256 or name."""


class NotResidentError(NotFoundError):
    """The model is not in memory."""


class PreconditionError(ThingsvisionError):
    """The request is right, the server's state is not."""


class WeightsMissingError(PreconditionError):
    """Pretrained weights are not on this server."""


class ModelTooLargeError(PreconditionError):
    """The model can never fit the device's budget."""


class ModelInUseError(PreconditionError):
    """The model is used or pinned."""


class ModuleNeverRunsError(PreconditionError):
    """The module takes no part in a forward pass."""


class ExhaustedError(ThingsvisionError):
    """A limit of the server was met."""


class DeviceMemoryError(ExhaustedError):
    """The device ran out of memory for a model, or for one single image."""


class StorageError(ExhaustedError):
    """A disk is full."""


class UnavailableError(ThingsvisionError):
    """The server can't take requests now."""


class BackendCrashedError(UnavailableError):
    """The process that ran the model ended in the middle of the request; try again."""


class DrainingError(UnavailableError):
    """The server is shutting down."""


class ChecksumError(ThingsvisionError):
    """Bytes arrived other than they were sent."""


def format_shape(shape: Iterable[int | None]) -> str:
    """Return a shape as a sentence says it: `3 x 224 x 224`; None is any number."""
    return " x ".join("any" if size is None else str(size) for size in shape)


def input_shape_error(model: object, shape: Iterable[int], reason: object) -> InvalidRequestError:
    """Return the error of a model whose own code fails with inputs of a shape."""
    sentence = f"{model} can't take inputs of {format_shape(shape)}: {reason}"
    return InvalidRequestError(sentence, field="input")


def choices(value: str, valid: Iterable[str], *, most: int = 12) -> str:
    """Return a sentence that names near matches of a wrong value first, then valid values."""
    names: Sequence[str] = list(valid)
    near = get_close_matches(value, names, n=5, cutoff=0.5)
    rest = [name for name in names if name not in near][: max(0, most - len(near))]
    more = len(names) - len(near) - len(rest)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    others = ", ".join([*rest, *([f"and {more} more"] if more else [])])
    return f"{hint}{'Others' if near else 'Valid'}: {others}." if others else hint.strip()

"""All errors of the server, as one tree; `rpc/status.py` maps them to gRPC statuses.

ThingsvisionError
├── InvalidRequestError        the request is invalid
│   ├── UnknownModuleError     the model does not have this module
│   ├── NotExtractableError    the module's output is not one row per image
│   ├── ImageError             one image can't be used; the message names it
│   ├── InvalidWeightsError    an uploaded file is broken, or can't be read without running code
│   ├── WeightsMismatchError   a state dict does not fit the model
│   └── PCAMismatchError       a PCA was fitted on other features
├── NotFoundError
│   ├── UnknownSourceError  UnknownModelError  UnknownWeightsError  UnknownImageError
│   ├── UnknownPCAError
│   └── NotResidentError       the model is not in memory
├── PreconditionError          the request is valid, but not in the server's current state
│   ├── WeightsMissingError    pretrained weights are not on this server
│   ├── ModelTooLargeError     the model can never fit the device's budget
│   ├── ModelInUseError        the model is used or pinned, so it can't be unloaded
│   └── ModuleNeverRunsError   the module does not run in a forward pass
├── ExhaustedError             a limit of the server was reached
│   ├── DeviceMemoryError      the device is out of memory, even for a single image
│   └── StorageError           the disk for weights or spilled features is full
├── UnavailableError
│   ├── BackendCrashedError    the process that ran the model ended; retry
│   └── DrainingError          the server is shutting down
├── UnsupportedError           the request is of a newer client
└── ChecksumError              data was corrupted in transit
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class ThingsvisionError(Exception):
    """The root. `field` is the invalid field of the request, `subject` its invalid value."""

    def __init__(self, message: str, *, field: str = "", subject: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.subject = subject


class InvalidRequestError(ThingsvisionError):
    """The request is invalid."""


class UnknownModuleError(InvalidRequestError):
    """The model does not have this module."""


class NotExtractableError(InvalidRequestError):
    """The module's output is not one row per image."""


class ImageError(InvalidRequestError):
    """One image can't be used."""


class InvalidWeightsError(InvalidRequestError):
    """A file is broken, of unknown format, or can't be read without running code."""


class WeightsMismatchError(InvalidRequestError):
    """A state dict does not fit the model."""


class PCAMismatchError(InvalidRequestError):
    """A PCA does not fit the features that it should reduce."""


class NotFoundError(ThingsvisionError):
    """The server does not have the named object."""


class UnknownSourceError(NotFoundError):
    """The server does not have this source."""


class UnknownModelError(NotFoundError):
    """The source does not have this model."""


class UnknownWeightsError(NotFoundError):
    """The model does not have this pretrained tag, or this file was not uploaded."""


class UnknownImageError(NotFoundError):
    """The server does not have this image."""


class UnknownPCAError(NotFoundError):
    """The server does not have a PCA with this SHA-256 or name."""


class NotResidentError(NotFoundError):
    """The model is not in memory."""


class PreconditionError(ThingsvisionError):
    """The request is valid, but not in the server's current state."""


class WeightsMissingError(PreconditionError):
    """Pretrained weights are not on this server."""


class ModelTooLargeError(PreconditionError):
    """The model can never fit the device's budget."""


class ModelInUseError(PreconditionError):
    """The model is used or pinned."""


class ModuleNeverRunsError(PreconditionError):
    """The module does not run in a forward pass."""


class ExhaustedError(ThingsvisionError):
    """A limit of the server was reached."""


class DeviceMemoryError(ExhaustedError):
    """The device is out of memory for a model, or for a single image."""


class StorageError(ExhaustedError):
    """A disk is full."""


class UnavailableError(ThingsvisionError):
    """The server can't take requests now."""


class BackendCrashedError(UnavailableError):
    """The process that ran the model ended during the request; retry."""


class DrainingError(UnavailableError):
    """The server is shutting down."""


class UnsupportedError(ThingsvisionError):
    """The request asks for something that only newer servers know."""


class ChecksumError(ThingsvisionError):
    """Data was corrupted in transit."""


_IMAGE_AXES = 3


def format_shape(shape: Iterable[int | None]) -> str:
    """Return a shape as text: `3 x 224 x 224`; None becomes `any`."""
    return " x ".join("any" if size is None else str(size) for size in shape)


def input_shape_error(model: object, shape: Iterable[int], reason: object) -> InvalidRequestError:
    """Return the error for a model whose own code fails for an input shape."""
    sizes = tuple(shape)
    sentence = f"{model} can't take inputs of {format_shape(sizes)}: {reason}"
    if len(sizes) == _IMAGE_AXES - 1:  # an image in the place of a batch
        sentence += ". A batch is images x one input's shape: of one image it is image[None]"
    return InvalidRequestError(sentence, field="input")


def network_error(model: object, shape: Iterable[int], reason: object) -> InvalidRequestError:
    """Return the error for a model whose own code fails in a pass."""
    sentence = f"the network of {model} fails for inputs of {format_shape(shape)}: {reason}"
    return InvalidRequestError(sentence, field="model.name", subject=str(model))


def choices(value: str, valid: Iterable[str], *, most: int = 12) -> str:
    """Return a sentence that lists close matches of an invalid value, then other valid values."""
    names: Sequence[str] = list(valid)
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    close = get_close_matches(value.casefold(), folded, n=5, cutoff=0.5)
    near = [name for match in close for name in folded[match]]
    rest = [name for name in names if name not in near][: max(0, most - len(near))]
    more = len(names) - len(near) - len(rest)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    others = ", ".join([*rest, *([f"and {more} more"] if more else [])])
    return f"{hint}{'Others' if near else 'Valid'}: {others}." if others else hint.strip()

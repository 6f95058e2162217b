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
│   ├── WrongServerError       the call is for another server, and reached this one
│   └── ModuleNeverRunsError   the module does not run in a forward pass
├── ExhaustedError             a limit of the server was reached
│   ├── DeviceMemoryError      the device is out of memory, even for a single image
│   ├── StorageError           a disk of the server is full, or fails
│   └── TooManyCallsError      the person has too much in progress
├── UnavailableError
│   ├── BackendCrashedError    the process that ran the model ended; retry
│   ├── StalledError           the client sent nothing for too long
│   ├── LeaseLostError         the model can't be had again, after its stream had given it back
│   └── DrainingError          the server is shutting down
├── UnauthenticatedError       the call does not show who makes it
├── PermissionDeniedError      the person may not make this call
├── DeviceLostError            the device failed; the server's process ends
├── UnsupportedError           the request is of a newer client
└── ChecksumError              data was corrupted in transit
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class ThingsvisionError(Exception):
    """The root. `field` is the invalid field of the request, `subject` its invalid value.

    `retry_seconds` is when the same request may succeed; 0: trying again does not help, or it is
    not known when it would.
    """

    def __init__(
        self, message: str, *, field: str = "", subject: str = "", retry_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.field = field
        self.subject = subject
        self.retry_seconds = retry_seconds


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


class WrongServerError(PreconditionError):
    """The call is for another server of the cluster, and reached this one."""


class ModuleNeverRunsError(PreconditionError):
    """The module does not run in a forward pass."""


class ExhaustedError(ThingsvisionError):
    """A limit of the server was reached."""


class DeviceMemoryError(ExhaustedError):
    """The device is out of memory for a model, or for a single image."""


class TooManyCallsError(ExhaustedError):
    """The person has as much in progress as is allowed; retry when a call has ended."""


class StorageError(ExhaustedError):
    """A disk is full, or fails."""


class UnavailableError(ThingsvisionError):
    """The server can't take requests now."""


class BackendCrashedError(UnavailableError):
    """The process that ran the model ended during the request; retry."""


class StalledError(UnavailableError):
    """The client sent nothing for too long while the server waited for its next message."""


class LeaseLostError(UnavailableError):
    """A stream gave its model back while it waited for its client, and can't have it again."""


class DrainingError(UnavailableError):
    """The server is shutting down."""


class UnauthenticatedError(ThingsvisionError):
    """The call has no token, or a token or a certificate that is not valid."""


class PermissionDeniedError(ThingsvisionError):
    """The person who makes the call lacks the scope that it needs."""


class DeviceLostError(ThingsvisionError):
    """The process can't use its device any more, and ends."""


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


_LONGEST_NAME = 500
"""Characters of the longest name that others may resemble."""


def no_memory_error(model: object, shape: Iterable[int], reason: object) -> DeviceMemoryError:
    """Return the error for a model that needs more memory for a few inputs than there is."""
    line = str(reason).strip().partition("\n")[0]
    sentence = (
        f"{model} needs more memory for inputs of {format_shape(shape)} than the server has: {line}"
    )
    return DeviceMemoryError(sentence, field="model.name", subject=str(model))


def choices(value: str, valid: Iterable[str], *, most: int = 12) -> str:
    """Return a sentence that lists close matches of an invalid value, then other valid values."""
    names: Sequence[str] = list(valid)
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    # Its time grows with the lengths of both.
    is_name = len(value) <= _LONGEST_NAME
    close = get_close_matches(value.casefold(), folded, n=5, cutoff=0.5) if is_name else []
    near = [name for match in close for name in folded[match]]
    rest = [name for name in names if name not in near][: max(0, most - len(near))]
    more = len(names) - len(near) - len(rest)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    others = ", ".join([*rest, *([f"and {more} more"] if more else [])])
    return f"{hint}{'Others' if near else 'Valid'}: {others}." if others else hint.strip()

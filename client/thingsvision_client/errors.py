"""The errors that users see, as one tree. `rpc/status.py` makes them from gRPC statuses.

ThingsvisionError
├── NoServerError              no server was named
├── InvalidRequestError        the request is invalid (also a ValueError)
│   ├── UnknownModuleError     the model has no such module
│   ├── NotExtractableError    the module's output is not one row per image
│   ├── ImageError             one image can't be used; names it
│   │   └── BadImagesError     some images can't be used; has the features of the others
│   ├── InvalidWeightsError    an uploaded file is broken, or needs code to be read
│   ├── WeightsMismatchError   a state dict does not fit the model
│   └── PCAMismatchError       a PCA was fitted on other features
├── NotFoundError              the server does not have what was named (also a ValueError)
│   ├── UnknownSourceError  UnknownModelError  UnknownWeightsError  UnknownImageError
│   ├── UnknownPCAError
│   └── NotResidentError       the model is not in memory
├── PreconditionError          the request is valid, but not in the server's present state
│   ├── WeightsMissingError    pretrained weights are not on this server
│   ├── ModelTooLargeError     the model can never fit the device's budget
│   ├── ModelInUseError        the model is used or pinned, so it can't be unloaded
│   └── ModuleNeverRunsError   the module takes no part in a forward pass
├── ExhaustedError             a limit of the server was reached
│   ├── DeviceMemoryError      the device ran out of memory for one single image
│   └── StorageError           the disk for weights or spilled features is full
├── UnavailableError           nothing answers at the server's address
│   ├── BackendCrashedError    the process that ran the model ended; try again
│   └── DrainingError          the server is shutting down
├── DeadlineError              the timeout that the user gave has passed
├── StoppedError               the call was cancelled before its end
├── UnsupportedError           the server is too old for this call
├── RefusedError               the server, or a proxy before it, denies access
├── IncompleteReplyError       the reply ended early, or its counts differ
├── ChecksumError              data was corrupted in transit
├── ServerError                the server failed; its log has the request id
└── MissingDependencyError     an optional package is not installed (also an ImportError)

Classes that the server raises as well have the same name there, which the reply carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class ThingsvisionError(Exception):
    """The root of all errors.

    `request_id` is the id under which the server logged the call, or empty; `field` is the
    field of the request at fault and `subject` the wrong value, if the server names them.
    """

    def __init__(
        self, message: str, *, request_id: str = "", field: str = "", subject: str = ""
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.field = field
        self.subject = subject

    def with_text(self, text: str) -> ThingsvisionError:
        """Return the same error with a further sentence; raise it from this one.

        Args:
            text: The sentence, with its full stop.

        Returns:
            An error of the same class, with the same `request_id`, `field` and `subject`.

        Example:
            ```python
            from thingsvision_client import Client
            from thingsvision_client.errors import UnknownModelError

            try:
                Client().modules("torchvision/alexnett")
            except UnknownModelError as error:
                print(error.with_text("This was the third model of the study."))
            ```

        """
        return type(self)(
            f"{str(self).removesuffix('.')}. {text}",
            request_id=self.request_id,
            field=self.field,
            subject=self.subject,
        )


class UndefinedDistanceWarning(UserWarning):
    """Some rows have no defined distance to others: their RDM entries are NaN."""


class InputRangeWarning(UserWarning):
    """Arrays that are inputs have values that the model's own preprocessing can't give."""


class ReplacedFileWarning(UserWarning):
    """A file of results was replaced by a file of something else."""


class UnnamedRowsWarning(UserWarning):
    """Rows of a file are only numbered, since it is not known which images they are."""


class NoServerError(ThingsvisionError):
    """No server was named, or its address can't be one."""


class InvalidRequestError(ThingsvisionError, ValueError):
    """The request is invalid."""


class UnknownModuleError(InvalidRequestError):
    """The model has no such module."""


class NotExtractableError(InvalidRequestError):
    """The module's output is not one row per image."""


class ImageError(InvalidRequestError):
    """One image can't be used."""


REMOVED, LEFT_OUT = "was removed", "was left out"
"""Reasons of images that are not in the list any more; in their batches they leave holes."""


@dataclass(frozen=True)
class BadImage:
    """An image that can't be used.

    Attributes:
        place: Its place in the list of images as given, from 0.
        name: Its name.
        reason: What is wrong with it, such as `is broken: image file is truncated`.

    Example:
        ```python
        from thingsvision_client import Client
        from thingsvision_client.errors import BadImagesError

        try:
            extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        except BadImagesError as error:
            for image in error.bad:
                print(image.place, image.name, image.reason)
            extraction = error.result  # of the other images
        print(extraction.features["features.10"].shape)
        ```

    """

    place: int
    name: str
    reason: str

    @property
    def is_known(self) -> bool:
        """Whether the user knows: the image was removed since, or left out of its dataset."""
        return self.reason.startswith((REMOVED, LEFT_OUT))

    def __str__(self) -> str:
        return f"image {self.place} ({self.name!r}) {self.reason}"


class BadImagesError(ImageError):
    """Some images can't be used. The call went on with the others, and ends with this error.

    `bad` has a BadImage for each of them. `result` is what the call would have returned for the
    others: features without the rows of bad images. It is None where features went to files, or no
    image could be used.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        field: str = "",
        subject: str = "",
        bad: Sequence[BadImage] = (),
        result: Any = None,
    ) -> None:
        super().__init__(message, request_id=request_id, field=field, subject=subject)
        self.bad = tuple(bad)
        self.result = result

    @classmethod
    def of(
        cls, bad: Sequence[BadImage], count: int | None, advice: str, result: Any = None
    ) -> BadImagesError:
        """Return the error of these images, of so many.

        Args:
            bad: The images.
            count: Number of all images, or None.
            advice: A sentence on what became of the others, and what can be done.
            result: What the call would have returned for the others.

        Returns:
            The error, which names the first images with their places and reasons.

        Example:
            ```python
            from thingsvision_client.errors import BadImage, BadImagesError

            bad = [BadImage(3, "cat.jpg", "is empty (0 bytes)")]
            print(BadImagesError.of(bad, 9, "Repair it."))
            ```

        """
        return cls(f"{bad_text(bad, count)}. {advice}", subject=bad[0].name, bad=bad, result=result)

    def with_text(self, text: str) -> BadImagesError:
        """Do as in ThingsvisionError.

        Args:
            text: The sentence, with its full stop.

        Returns:
            An error with the same attributes.

        Example:
            ```python
            from thingsvision_client.errors import BadImage, BadImagesError

            bad = [BadImage(3, "cat.jpg", "is empty (0 bytes)")]
            error = BadImagesError.of(bad, 9, "Repair it.")
            print(error.with_text("This was the third folder."))
            ```

        """
        error = BadImagesError(str(super().with_text(text)), subject=self.subject)
        vars(error).update(vars(self))
        return error

    def with_result(self, result: Any) -> BadImagesError:
        """Return the same error with another result.

        Args:
            result: What the call would have returned for the other images.

        Returns:
            An error with the same text.

        Example:
            ```python
            from thingsvision_client.errors import BadImage, BadImagesError

            bad = [BadImage(3, "cat.jpg", "is empty (0 bytes)")]
            error = BadImagesError.of(bad, 9, "Repair it.")
            print(error.with_result([0.5]).result)
            ```

        """
        error = BadImagesError(str(self), subject=self.subject)
        vars(error).update({**vars(self), "result": result})
        return error


_MOST_BAD = 10


def bad_text(bad: Sequence[BadImage], count: int | None) -> str:
    """Return a sentence that lists images that can't be used, without its full stop.

    Args:
        bad: The images.
        count: Number of all images, or None.

    Returns:
        The first images with their places and reasons, and how many more there are.

    Example:
        ```python
        from thingsvision_client.errors import BadImage, bad_text

        print(bad_text([BadImage(3, "cat.jpg", "is empty (0 bytes)")], 9))
        ```

    """
    number = f"{len(bad)} of {count}" if count is not None else f"{len(bad)}"
    noun = "image" if len(bad) == 1 and count in (None, 1) else "images"
    shown = "; ".join(map(str, bad[:_MOST_BAD]))
    more = f"; and {len(bad) - _MOST_BAD} more" if len(bad) > _MOST_BAD else ""
    return f"{number} {noun} can't be used: {shown}{more}"


class InvalidWeightsError(InvalidRequestError):
    """A file is broken, has an unknown format, or can't be used without running code."""


class WeightsMismatchError(InvalidRequestError):
    """A state dict does not fit the model."""


class PCAMismatchError(InvalidRequestError):
    """A PCA was fitted on other features than it should reduce."""


class NotFoundError(ThingsvisionError, ValueError):
    """The server does not have what was named."""


class UnknownSourceError(NotFoundError):
    """There is no such source."""


class UnknownModelError(NotFoundError):
    """The source has no such model."""


class UnknownWeightsError(NotFoundError):
    """The model has no such pretrained tag, or no such file was uploaded."""


class UnknownImageError(NotFoundError):
    """The server does not have that image."""


class UnknownPCAError(NotFoundError):
    """The server has no PCA with that SHA-256 or name."""


class NotResidentError(NotFoundError):
    """The model is not in memory."""


class PreconditionError(ThingsvisionError):
    """The request is valid, but not in the server's present state."""


class WeightsMissingError(PreconditionError):
    """Pretrained weights are not on this server."""


class ModelTooLargeError(PreconditionError):
    """The model can never fit the device's budget."""


class ModelInUseError(PreconditionError):
    """The model is used or pinned."""


class ModuleNeverRunsError(PreconditionError):
    """The module takes no part in a forward pass."""


class ExhaustedError(ThingsvisionError):
    """A limit of the server was reached."""


class DeviceMemoryError(ExhaustedError):
    """The device ran out of memory for one single image."""


class StorageError(ExhaustedError):
    """A disk of the server is full, or writing features to a disk fails."""


class UnavailableError(ThingsvisionError):
    """Nothing answers at the server's address."""


class BackendCrashedError(UnavailableError):
    """The process that ran the model ended in the middle of the request; try again."""


class DrainingError(UnavailableError):
    """The server is shutting down."""


class DeadlineError(ThingsvisionError):
    """The timeout that the user gave has passed."""


class StoppedError(ThingsvisionError):
    """The call was cancelled before its end."""


class UnsupportedError(ThingsvisionError):
    """The server does not know this call."""


class RefusedError(ThingsvisionError):
    """The server, or a proxy before it, denies access."""


class IncompleteReplyError(ThingsvisionError):
    """The reply ended without its trailer, misses a frame, or its counts differ."""


class ChecksumError(ThingsvisionError):
    """Data was corrupted in transit."""


class ServerError(ThingsvisionError):
    """The server failed, through no fault of the request."""


class MissingDependencyError(ThingsvisionError, ImportError):
    """An optional package is not installed; the message says how to install it."""


_MOST_NAMED = 10


def listed(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    """Return the first names of a list, and how many more there are, for a sentence.

    Args:
        names: The names.
        most: Number of names at most.

    Returns:
        The names in quotation marks, such as `'a', 'b' and 3 more`.

    Example:
        ```python
        from thingsvision_client.errors import listed

        print(listed(["conv1", "conv2", "fc"], most=2))
        ```

    """
    more = len(names) - most
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {more} more" if more > 0 else "")

"""The classes of errors and warnings; their tree is in the header of the package."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"(tv_[0-9A-Za-z]{1,32}_)[0-9A-Za-z]{16,}")
"""A token with its secret, in the place of an address, for example."""


class ThingsvisionError(Exception):
    """The root of all errors.

    `request_id` is the id under which the server logged the call, or empty; `field` is the
    field of the request at fault and `subject` the wrong value, if the server names them.
    `retry_seconds` is when the same call may succeed, if the server says so; else 0.
    `lost_servers` is how many servers died while they had the call, as far as a gateway told it;
    `reply_had_begun` says whether a part of the reply had come. No error shows a token, wherever it
    was written.
    """

    def __init__(
        self, message: str, *, request_id: str = "", field: str = "", subject: str = ""
    ) -> None:
        super().__init__(_TOKEN.sub(r"\1***", message))
        self.request_id = request_id
        self.field = field
        self.subject = subject
        self.retry_seconds = 0.0
        self.lost_servers = 0
        self.reply_had_begun = False

    def with_text(self, text: str) -> ThingsvisionError:
        """Return the same error with a further sentence; raise it from this one.

        Args:
            text: The sentence, with its full stop.

        Returns:
            An error of the same class, with the same other attributes.

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
        longer = type(self)(
            f"{str(self).removesuffix('.')}. {text}",
            request_id=self.request_id,
            field=self.field,
            subject=self.subject,
        )
        longer.retry_seconds = self.retry_seconds
        longer.lost_servers = self.lost_servers
        longer.reply_had_begun = self.reply_had_begun
        return longer


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


class InvalidWeightsError(InvalidRequestError):
    """A file is broken, has an unknown format, or can't be used without running code."""


class WeightsMismatchError(InvalidRequestError):
    """A state dict does not fit the model."""


class PCAMismatchError(InvalidRequestError):
    """A PCA was fitted on other features than it should reduce."""


class MixedServersError(InvalidRequestError):
    """Rows of one extraction would come from servers that compute other bits."""


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


class WrongServerError(PreconditionError):
    """The call is for another server of the cluster, and reached this one."""


class ModuleNeverRunsError(PreconditionError):
    """The module takes no part in a forward pass."""


class ExhaustedError(ThingsvisionError):
    """A limit of the server was reached."""


class DeviceMemoryError(ExhaustedError):
    """The device ran out of memory for one single image."""


class TooManyCallsError(ExhaustedError):
    """The caller has as many calls in progress as the server allows one person."""


class StorageError(ExhaustedError):
    """A disk of the server is full, or writing features to a disk fails."""


class UnavailableError(ThingsvisionError):
    """Nothing answers at the server's address."""


class BackendCrashedError(UnavailableError):
    """The process that ran the model ended in the middle of the request; try again."""


class StalledError(UnavailableError):
    """The server ended the call, because nothing was sent while it waited; make the call again."""


class LeaseLostError(UnavailableError):
    """The server can't have the model again that it gave back while it waited for this client."""


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


class UnauthenticatedError(RefusedError):
    """The call has no token, or a token or a certificate that the server does not accept."""


class PermissionDeniedError(RefusedError, PermissionError):
    """The person whose token it is lacks the scope that the call needs."""


class CertificateError(ThingsvisionError):
    """The server's certificate is not trusted, has expired, or is another host's."""


class IncompleteReplyError(ThingsvisionError):
    """The reply ended without its trailer, misses a frame, or its counts differ."""


class ChecksumError(ThingsvisionError):
    """Data was corrupted in transit."""


class ServerError(ThingsvisionError):
    """The server failed, through no fault of the request."""


class DeviceLostError(ServerError):
    """The server's device failed during the call, and the server ends; it may be restarted."""


class MissingDependencyError(ThingsvisionError, ImportError):
    """An optional package is not installed; the message says how to install it."""

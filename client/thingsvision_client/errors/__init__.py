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
│   ├── PCAMismatchError       a PCA was fitted on other features
│   └── MixedServersError      rows would come from servers that compute other bits
├── NotFoundError              the server does not have what was named (also a ValueError)
│   ├── UnknownSourceError  UnknownModelError  UnknownWeightsError  UnknownImageError
│   ├── UnknownPCAError
│   └── NotResidentError       the model is not in memory
├── PreconditionError          the request is valid, but not in the server's present state
│   ├── WeightsMissingError    pretrained weights are not on this server
│   ├── ModelTooLargeError     the model can never fit the device's budget
│   ├── ModelInUseError        the model is used or pinned, so it can't be unloaded
│   ├── WrongServerError       the call is for another server of the cluster
│   └── ModuleNeverRunsError   the module takes no part in a forward pass
├── ExhaustedError             a limit of the server was reached
│   ├── DeviceMemoryError      the device ran out of memory for one single image
│   ├── StorageError           the disk for weights or spilled features is full
│   └── TooManyCallsError      you have as many calls in progress as one person may
├── UnavailableError           nothing answers at the server's address
│   ├── BackendCrashedError    the process that ran the model ended; try again
│   ├── StalledError           nothing was sent while the server waited
│   ├── LeaseLostError         the model can't be had again after such a wait
│   └── DrainingError          the server is shutting down
├── DeadlineError              the timeout that the user gave has passed
├── StoppedError               the call was cancelled before its end
├── UnsupportedError           the server is too old for this call
├── RefusedError               the server, or a proxy before it, denies access
│   ├── UnauthenticatedError   the call has no valid token or certificate
│   └── PermissionDeniedError  the token lacks a scope (also a PermissionError)
├── CertificateError           the server's certificate is not trusted
├── IncompleteReplyError       the reply ended early, or its counts differ
├── ChecksumError              data was corrupted in transit
├── ServerError                the server failed; its log has the request id
│   └── DeviceLostError        the server's device failed in the call; the server ends
└── MissingDependencyError     an optional package is not installed (also an ImportError)

Classes that the server raises as well have the same name there, which the reply carries.
"""

from .bad_images import LEFT_OUT, REMOVED, BadImage, BadImagesError, bad_text
from .tree import (
    BackendCrashedError,
    CertificateError,
    ChecksumError,
    DeadlineError,
    DeviceLostError,
    DeviceMemoryError,
    DrainingError,
    ExhaustedError,
    ImageError,
    IncompleteReplyError,
    InputRangeWarning,
    InvalidRequestError,
    InvalidWeightsError,
    LeaseLostError,
    MissingDependencyError,
    MixedServersError,
    ModelInUseError,
    ModelTooLargeError,
    ModuleNeverRunsError,
    NoServerError,
    NotExtractableError,
    NotFoundError,
    NotResidentError,
    PCAMismatchError,
    PermissionDeniedError,
    PreconditionError,
    RefusedError,
    ReplacedFileWarning,
    ServerError,
    StalledError,
    StoppedError,
    StorageError,
    ThingsvisionError,
    TooManyCallsError,
    UnauthenticatedError,
    UnavailableError,
    UndefinedDistanceWarning,
    UnknownImageError,
    UnknownModelError,
    UnknownModuleError,
    UnknownPCAError,
    UnknownSourceError,
    UnknownWeightsError,
    UnnamedRowsWarning,
    UnsupportedError,
    WeightsMismatchError,
    WeightsMissingError,
    WrongServerError,
)

__all__ = [
    "BackendCrashedError",
    "BadImage",
    "BadImagesError",
    "CertificateError",
    "ChecksumError",
    "DeadlineError",
    "DeviceLostError",
    "DeviceMemoryError",
    "DrainingError",
    "ExhaustedError",
    "ImageError",
    "IncompleteReplyError",
    "InputRangeWarning",
    "InvalidRequestError",
    "InvalidWeightsError",
    "LEFT_OUT",
    "LeaseLostError",
    "MissingDependencyError",
    "MixedServersError",
    "ModelInUseError",
    "ModelTooLargeError",
    "ModuleNeverRunsError",
    "NoServerError",
    "NotExtractableError",
    "NotFoundError",
    "NotResidentError",
    "PCAMismatchError",
    "PermissionDeniedError",
    "PreconditionError",
    "REMOVED",
    "RefusedError",
    "ReplacedFileWarning",
    "ServerError",
    "StalledError",
    "StoppedError",
    "TooManyCallsError",
    "StorageError",
    "ThingsvisionError",
    "UnauthenticatedError",
    "UnavailableError",
    "UndefinedDistanceWarning",
    "UnknownImageError",
    "UnknownModelError",
    "UnknownModuleError",
    "UnknownPCAError",
    "UnknownSourceError",
    "UnknownWeightsError",
    "UnnamedRowsWarning",
    "UnsupportedError",
    "WeightsMismatchError",
    "WeightsMissingError",
    "WrongServerError",
    "bad_text",
]

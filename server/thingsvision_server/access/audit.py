"""The audit log: who changed what is on the server, and who was refused, as JSON lines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import structlog

from ..errors import PreconditionError
from .sparing import Sparing
from .tokens import hide_tokens

AUDITED_METHODS = frozenset(
    {
        "/thingsvision.v1.ModelService/LoadModel",
        "/thingsvision.v1.ModelService/UnloadModel",
        "/thingsvision.v1.ModelService/PinModel",
        "/thingsvision.v1.ModelService/UploadWeights",
        "/thingsvision.v1.ModelService/DeleteUpload",
        "/thingsvision.v1.PCAService/FitPCA",
        "/thingsvision.v1.PCAService/DeletePCA",
        "/thingsvision.v1.ImageService/DeleteCachedImages",
        "/thingsvision.v1.SharingService/Share",
        "/thingsvision.v1.SharingService/MoveOwner",
    }
)
"""RPCs that change what is on the server for others."""

_log = structlog.get_logger("thingsvision.access")


class AuditLog:
    """A file to which each event adds a line; without a path nothing is written.

    The file is opened for each line, so that it may be rotated. Only its owner may read it.

    Raises PreconditionError if the file can't be written to.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._refusals = Sparing(clock)
        if path is not None:
            try:
                os.close(_open(path))
            except OSError as error:
                raise PreconditionError(
                    f"can't write to the audit log {path}: {error.strerror}"
                ) from error

    def record(self, event: str, **fields: object) -> None:
        """Add what somebody did; values that are empty are left out."""
        self._write(event, fields)

    def record_refusal(self, event: str, **fields: object) -> None:
        """Add a call that was refused; of many in a second, only their number."""
        if self._path is None:
            return
        unwritten = self._refusals.take()
        if unwritten is not None:
            self._write(event, fields | {"unwritten_refusals": unwritten})

    def _write(self, event: str, fields: dict[str, object]) -> None:
        if self._path is None:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        told: dict[str, object] = {"time": now, "event": event}
        told |= {name: value for name, value in fields.items() if value or value is False}
        line = hide_tokens(json.dumps(told, default=str)) + "\n"
        try:
            number = _open(self._path)
            try:
                os.write(number, line.encode())  # at once, so that lines never mix
            finally:
                os.close(number)
        except OSError as error:
            # The call has happened: failing it now would tell its caller the contrary.
            _log.error("the audit log can't be written to", detail=str(error), line=line.strip())


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

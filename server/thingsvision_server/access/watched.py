"""A file, or several, whose content is read again when it changes; a broken one keeps the old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from ..errors import PreconditionError

Content = TypeVar("Content")

_log = structlog.get_logger("thingsvision.access")


class Watched(Generic[Content]):
    """The content of files, as last read without a fault.

    Args:
        what: What the files are, for the log.
        paths: The files.
        read: Reads them; raises PreconditionError, also the first time.
        report: Gets whether the files as they are now can't be used.

    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[[], Content],
        report: Callable[[bool], None],
    ) -> None:
        self._what = what
        self._paths = paths
        self._read = read
        self._report = report
        self._stamp = self._take_stamp()
        self.content = read()
        report(False)

    def look(self) -> bool:
        """Read the files again if they changed, and return whether there is new content."""
        stamp = self._take_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.content = self._read()
        except PreconditionError as error:
            self._report(True)
            _log.error(
                f"{self._what} changed and can't be used: the old ones stay", detail=str(error)
            )
            return False
        self._report(False)
        _log.info(f"{self._what} changed and were read again")
        return True

    def _take_stamp(self) -> tuple[object, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[object, ...]:
    """Return what changes when a file does, or the file that a link leads to."""
    try:
        found = [path.lstat(), path.stat()]
    except OSError as error:
        return (error.errno,)
    return tuple(
        (one.st_ino, one.st_mode, one.st_uid, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
        for one in found
    )

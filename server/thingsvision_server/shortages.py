"""Tells what the system has run out of from an error: disk, open files, threads, or memory.

Such an error says nothing about a request's own data, whatever it was raised as on its way.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from .errors import ExhaustedError, StorageError, ThingsvisionError, UnavailableError

_RETRY_SECONDS = 10.0
"""When calls that have memory now may have ended."""

_Make: TypeAlias = Callable[[BaseException], ThingsvisionError]


def _disk(error: BaseException) -> ThingsvisionError:
    path = str(getattr(error, "filename", None) or "")
    reason = getattr(error, "strerror", None) or str(error)
    place = f"{path} can't be written" if path else "a file can't be written"
    return StorageError(
        f"{place} on this server: {reason}. Try again when its operator has made room on the disk",
        subject=path,
    )


def _broken_disk(error: BaseException) -> ThingsvisionError:
    path = str(getattr(error, "filename", None) or "")
    reason = getattr(error, "strerror", None) or str(error)
    return StorageError(
        f"the disk of {path or 'a file'} on this server fails: {reason}. Tell its operator",
        subject=path,
    )


def _files(_error: BaseException) -> ThingsvisionError:
    return UnavailableError(
        "this server can't open more files now; calls that need no more go on. Try again; its "
        "operator can raise the limit (ulimit -n)"
    )


def _threads(_error: BaseException) -> ThingsvisionError:
    return UnavailableError(
        "this server can't start more threads or processes now; calls that need no more go on. Try "
        "again; its operator can raise the limit (ulimit -u, or the container's limit of pids)"
    )


def _memory(_error: BaseException) -> ThingsvisionError:
    return ExhaustedError(
        "this server has no memory left for this call. Try again, or ask for less at a time",
        retry_seconds=_RETRY_SECONDS,
    )


_BY_NUMBER: Mapping[int, _Make] = {
    errno.ENOSPC: _disk,
    errno.EDQUOT: _disk,
    errno.EFBIG: _disk,
    errno.EROFS: _broken_disk,
    errno.EIO: _broken_disk,
    errno.EMFILE: _files,
    errno.ENFILE: _files,
    errno.EAGAIN: _threads,
    errno.ENOMEM: _memory,
}

_BY_WORDS: Mapping[re.Pattern[str], _Make] = {
    re.compile("|".join(words)): make
    for words, make in (
        (("No space left on device", "Disk quota exceeded"), _disk),
        (("Too many open files",), _files),
        (("can't start new thread", "Resource temporarily unavailable"), _threads),
        (("Cannot allocate memory",), _memory),
    )
}
"""How libraries that don't raise OSError report the same."""


def shortage_behind(error: BaseException) -> ThingsvisionError | None:
    """Return the error for what the system has run out of, if that is why `error` was raised.

    An error that says so itself, such as StorageError, is returned as it is.
    """
    if isinstance(error, (ExhaustedError, UnavailableError)):
        return error
    makes = ((_kind(one), one) for one in _chain(error))
    # An error of ours that is due to memory describes a request that takes too much.
    skipped = {None, _memory} if isinstance(error, ThingsvisionError) else {None}
    return next((make(one) for make, one in makes if make and make not in skipped), None)


def raise_shortage(error: BaseException) -> None:
    """Raise the error for what the system has run out of, if that is why `error` was raised."""
    shortage = shortage_behind(error)
    if shortage is not None:
        raise shortage from error


def _kind(error: BaseException) -> _Make | None:
    if isinstance(error, ThingsvisionError):
        return None
    if isinstance(error, MemoryError):
        return _memory
    if isinstance(error, OSError) and (error.errno or 0) in _BY_NUMBER:
        return _BY_NUMBER[error.errno or 0]
    text = str(error)
    return next((make for words, make in _BY_WORDS.items() if words.search(text)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and the errors that led to it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__

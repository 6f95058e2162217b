"""Reads and writes the tokens file, which only its owner may read."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import PreconditionError
from ..shared_folder.exclusion import alone
from .register import Register

_MOST_BYTES = 16 * 1024 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_register(path: Path, *, any_owner: bool = False) -> Register:
    """Return the register in a tokens file; `any_owner` is for root, who changes others' files.

    Raises PreconditionError for a file that is missing, a link, not the server's own, readable by
    others, or broken.
    """
    return _parse(path, _read_private(path, any_owner=any_owner))


@contextmanager
def change_register(path: Path) -> Iterator[list[Register]]:
    """Yield a list with the register of a file; replace the file by what the list has at the end.

    A file that is missing counts as empty. Other processes that change it wait.
    """
    with _locked(path.parent):
        exists = path.exists() or path.is_symlink()
        content = [read_register(path, any_owner=is_root()) if exists else Register()]
        yield content
        _write(path, content[0])


def is_root() -> bool:
    """Return whether this process may read and give away the files of all users."""
    return os.geteuid() == 0


def _read_private(path: Path, *, any_owner: bool) -> bytes:
    try:
        # O_NONBLOCK: a pipe by that name would block the server.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise PreconditionError(f"can't read the tokens file {path}: {reason}") from error
    try:
        if fault := _fault(os.fstat(number), any_owner=any_owner):
            raise PreconditionError(f"the tokens file {path} {fault}")
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES)
    finally:
        os.close(number)


def _fault(found: os.stat_result, *, any_owner: bool) -> str:
    """Return what makes a file unfit to hold tokens, or an empty text."""
    if not stat.S_ISREG(found.st_mode):
        return "must be a regular file"
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        return f"must be readable by its owner alone (0600), got {mode:04o}: chmod 600 it"
    if not any_owner and found.st_uid not in (os.geteuid(), 0):
        return f"must be owned by the server's user ({os.geteuid()}) or root, got {found.st_uid}"
    return f"must have less than {_MOST_BYTES:,} bytes" if found.st_size >= _MOST_BYTES else ""


def _parse(path: Path, content: bytes) -> Register:
    try:
        return Register.model_validate(json.loads(content, object_pairs_hook=_object))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}"
            for one in error.errors(include_input=False)[:3]
        )
        raise PreconditionError(f"the tokens file {path} is broken: {faults}") from None
    except ValueError as error:  # not JSON, not UTF-8, or a key twice
        raise PreconditionError(f"the tokens file {path} is broken: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object has a key twice: {', '.join(key for key, _ in pairs)}")
    return found


def _write(path: Path, register: Register) -> None:
    """Replace the file at once, so that a server that reads it finds all of it or none."""
    text = json.dumps(register.dump(), indent=1) + "\n"
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            _keep_owner(path, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _keep_owner(path: Path, number: int) -> None:
    """Leave the file to the server's user if root changes it."""
    if path.exists():
        owner = path.stat()
        if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(number, owner.st_uid, owner.st_gid)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have other processes that change the tokens in a folder wait while the context lasts."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with alone(folder, "" if _lock(number) else "tokens"):
            yield
    finally:
        os.close(number)


def _lock(number: int) -> bool:
    """Wait for the lock of an open folder; return False on a disk that has no locks."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
    except OSError:
        return False
    return True

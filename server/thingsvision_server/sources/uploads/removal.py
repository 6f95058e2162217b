"""Deletes uploaded files, each with its last owner, unless a server uses it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ...access.owners import Owners
from ...access.person import Person, viewer
from ...access.scopes import Scope
from ...errors import ModelInUseError, PermissionDeniedError
from ...shared_folder.claims import ClaimedError, Claims, is_there
from ..digests import is_sha256
from .records import delete_record, read_record
from .upload import FileChecks

_LONE_SECONDS = 24 * 60 * 60


class Removal:
    """Takes files of a folder from their owners, and deletes what nobody owns any more."""

    def __init__(self, folder: Path, claims: Claims, owners: Owners, checks: FileChecks) -> None:
        self._folder = folder
        self._claims = claims
        self._owners = owners
        self._checks = checks

    def delete(self, sha256: str, models: Sequence[str] = ()) -> int:
        """Take a file from the caller, and delete it if nobody else owns it; return freed bytes.

        An admin takes it from all its owners. Raises UnknownWeightsError, PermissionDeniedError for
        a file that is only shared with the caller, and ModelInUseError if a server of this folder
        uses the bytes that would be deleted; `models` are this server's models that do.
        """
        record = read_record(self._folder, sha256, field="sha256")
        path, person = self._folder / sha256, viewer()
        leaving = {row.owner for row in self._owners.leaving(sha256, person)}
        if not leaving:
            raise PermissionDeniedError(
                f"{record.called} is not yours: {' and '.join(record.owners)} shares it with you; "
                "an owner or an admin deletes it",
                field="sha256",
                subject=sha256,
            )

        def has_others() -> bool:
            return any(row.owner not in leaving for row in self._owners.of(sha256))

        freed_bytes = 0
        if not has_others():
            try:
                is_deleted = self._claims.delete(path, has_others)
            except ClaimedError as error:
                if not has_others():  # nobody has just sent it, too
                    raise _in_use(sha256, models, error.servers, person) from error
                is_deleted = False
            freed_bytes = record.size_bytes * is_deleted
        if self._owners.remove(sha256, leaving):
            freed_bytes = freed_bytes or record.size_bytes * self._remove_unowned_file(sha256)
        if freed_bytes:
            self._forget(sha256)
        return freed_bytes

    def _remove_unowned_file(self, sha256: str) -> bool:
        """Delete a file that the last of several owners gave up; return whether it was there."""
        try:
            return self._claims.delete(self._folder / sha256, lambda: bool(self._owners.of(sha256)))
        except ClaimedError:  # it is used until then, and nobody can begin to use it
            return False

    def _forget(self, sha256: str) -> None:
        if not is_there(self._folder / sha256):  # no upload has brought it back
            delete_record(self._folder, sha256)
        self._owners.forget(sha256)
        self._checks.end(self._folder / sha256)

    def remove_unowned(self) -> None:
        """Delete what a killed server has taken from its last owner, but not deleted.

        Also the records of owners, a day old, whose file it has not stored, or has deleted.
        """
        for sha256 in filter(is_sha256, self._owners.recorded()):
            rows = self._owners.of(sha256)
            if not rows:
                self._remove_unowned_file(sha256)
                self._forget(sha256)
            elif time.time() - rows[-1].since > _LONE_SECONDS and not is_there(
                self._folder / sha256
            ):
                self._owners.remove(sha256, {row.owner for row in rows})
                self._owners.forget(sha256)


def _in_use(
    sha256: str, models: Sequence[str], servers: Sequence[str], person: Person
) -> ModelInUseError:
    others = [one for one in servers if one != "this server"]
    if (models or others) and not person.holds(Scope.CONTROL):
        return ModelInUseError(
            f"{sha256} is in use: a model of it is in memory, and to unload it needs the scope "
            f"`{Scope.CONTROL.value}`, which you don't have; ask for the scope, or have it "
            "unloaded, then delete the file",
            field="sha256",
            subject=sha256,
        )
    what = [f"unload {', '.join(models)} from memory first"] if models else []
    if others:
        what.append(f"its models in memory of {' and '.join(others)} must be unloaded there first")
    reason = "; ".join(what) or "a model is being loaded from it, or unloaded: try again"
    return ModelInUseError(f"{sha256} is in use: {reason}", field="sha256", subject=sha256)

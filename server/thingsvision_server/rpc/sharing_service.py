"""The SharingService: shares what people own, and gives it to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from structlog.contextvars import bind_contextvars

from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import SharingServiceServicer

from ..access.owners import OPERATOR, Ownership, owner_name
from ..access.person import Person, caller
from ..access.scopes import Scope
from ..errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from ..sources.digests import is_sha256

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_SCOPES: Mapping[str, Scope] = {"upload": Scope.UPLOAD}
"""The scope that sharing a kind of thing needs, if the scope of the RPC is not enough."""


class OwnedThings(Protocol):
    """A store of things of one kind, which people own."""

    @property
    def kind(self) -> str:
        """What they are, in a word."""
        ...

    def share(self, sha256: str, person: Person, *, shared: bool) -> bool:
        """Share a thing, or stop; return False if it is not the person's to share."""
        ...

    def ownership(self, sha256: str, person: Person) -> Sequence[Ownership]:
        """Return the records of owners that a person may see; empty if there is no such thing."""
        ...

    def check_gift(self, old: str, new: str) -> None:
        """Raise StorageError if all things of a person exceed what another may have."""
        ...

    def move_owner(self, old: str, new: str) -> int:
        """Give all things of a person to another; return their number."""
        ...


class SharingServicer(SharingServiceServicer):
    """Shares things, and gives them to others; `knows` says whether somebody has a name."""

    def __init__(self, stores: Sequence[OwnedThings], knows: Callable[[str], bool]) -> None:
        self._stores = stores
        self._knows = knows

    async def Share(self, request: pb.ShareRequest, _context: _Context) -> pb.ShareResponse:
        """Share what the caller owns, or stop sharing it."""
        bind_contextvars(sha256=request.sha256, shared=request.shared)
        if not is_sha256(request.sha256):
            sentence = f"`sha256` must be 64 lower-case hex digits, got {request.sha256!r}"
            raise InvalidRequestError(sentence, field="sha256", subject=request.sha256[:100])
        return await asyncio.to_thread(self._share, request.sha256, caller(), request.shared)

    def _share(self, sha256: str, person: Person, shared: bool) -> pb.ShareResponse:
        seen = {store: store.ownership(sha256, person) for store in self._stores}
        found = {store: rows for store, rows in seen.items() if rows}
        if not found:
            raise NotFoundError(
                f"you have nothing with the SHA-256 {sha256} on this server",
                field="sha256",
                subject=sha256,
            )
        for store in found:
            _check_scope(store.kind, person)
        changed = [store for store in found if store.share(sha256, person, shared=shared)]
        if not changed:
            store, rows = next(iter(found.items()))
            raise PermissionDeniedError(
                f"the {store.kind} {sha256} belongs to {' and '.join(row.owner for row in rows)}: "
                "only an owner or an admin can share it, or stop sharing it",
                field="sha256",
                subject=sha256,
            )
        now = [row for store in changed for row in store.ownership(sha256, person)]
        own = [row for row in now if row.owner == owner_name(person)]
        return pb.ShareResponse(
            kinds=[store.kind for store in changed],
            shared_with=next((row.shared_with for row in own or now if row.shared_with), ""),
        )

    async def MoveOwner(
        self, request: pb.MoveOwnerRequest, _context: _Context
    ) -> pb.MoveOwnerResponse:
        """Give all that a person owns to another."""
        old, new = request.old, request.new
        bind_contextvars(old=old, new=new, over_quota=request.over_quota)
        for field, name in (("old", old), ("new", new)):
            if not name:
                raise InvalidRequestError(f"`{field}` must be a person's name", field=field)
        if old == new:
            sentence = f"`new` must be another person than `old`, got {new!r} for both"
            raise InvalidRequestError(sentence, field="new", subject=new)
        if new != OPERATOR and not self._knows(new):
            raise InvalidRequestError(
                f"`new` must be the name of a person in the tokens file, or {OPERATOR!r}, got "
                f"{new!r}: give that person a token first",
                field="new",
                subject=new,
            )
        for store in () if request.over_quota else self._stores:
            await asyncio.to_thread(store.check_gift, old, new)
        counts = {
            store.kind: await asyncio.to_thread(store.move_owner, old, new)
            for store in self._stores
        }
        bind_contextvars(moved=counts)
        moved = [pb.MovedThings(kind=kind, count=count) for kind, count in counts.items() if count]
        return pb.MoveOwnerResponse(moved=moved)


def _check_scope(kind: str, person: Person) -> None:
    """Raise PermissionDeniedError if the person may not make what is to be shared."""
    scope = _SCOPES.get(kind)
    if scope is not None and not person.holds(scope):
        raise PermissionDeniedError(
            f"to share an {kind} needs the scope `{scope.value}`",
            field="scope",
            subject=scope.value,
        )

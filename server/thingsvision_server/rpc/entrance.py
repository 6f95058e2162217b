"""Lets calls in: finds who makes a call, and whether that person may make it, also later on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias

import grpc

from ..access.audit import AuditLog
from ..access.certificate_dates import end_of_certificate
from ..access.forwarded import CERTIFICATE_KEY, FOR_KEY, find_client_address, find_client_subject
from ..access.person import Person, act_as, caller, person_of_certificate, person_of_peer
from ..access.register import Register
from ..access.scopes import METHOD_SCOPES, Scope
from ..access.watched import Watched
from ..errors import PermissionDeniedError, ThingsvisionError, UnauthenticatedError
from .status import shorten

TOKEN_KEY = "authorization"  # noqa: S105 - the key of the metadata, not a token
_BEARER = "bearer"

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(eq=False)
class _Visit:
    """A call that was let in: how to check again that it may go on, and why it had to end."""

    task: asyncio.Task[object]
    check: Callable[[], object]
    error: ThingsvisionError | None = None


class Entrance:
    """Admits calls by the register of people; without a register, everybody may call all.

    Args:
        register: The tokens file, or None.
        contact: Who gives tokens, as refusals say it.
        audit: Where refusals are written.
        socket_is_gateway: Whether calls by the server's socket are a gateway's.

    """

    def __init__(
        self,
        register: Watched[Register] | None,
        contact: str,
        audit: AuditLog,
        *,
        socket_is_gateway: bool = False,
    ) -> None:
        self._register = register
        self._contact = contact
        self.audit = audit
        self._socket_is_gateway = socket_is_gateway
        self._visits: set[_Visit] = set()

    def admit_to_page(self, authorization: str) -> None:
        """Raise an error unless the header of a page's request has a token that may read."""
        if self._register is None:
            return
        try:
            token = _token_in([authorization]) or ""
            person = self._register.content.person_with_token(token)
        except UnauthenticatedError as error:
            raise self._with_contact(error) from None
        self._require(person, Scope.READ, "/metrics")

    def knows(self, name: str) -> bool:
        """Return whether the tokens file has a person of that name."""
        return self._register is not None and self._register.content.knows(name)

    def client_of(self, context: _Context) -> str:
        """Return the address of a caller, which a gateway says of those behind it."""
        if self._is_gateway(context, _subject_in(context)):
            return find_client_address(_values(context, FOR_KEY)) or context.peer()
        return str(context.peer())

    @contextmanager
    def admit(self, method: str, context: _Context) -> Iterator[Person]:
        """Let a call in while the context lasts, and yield who makes it.

        The person is `caller()` meanwhile. Raises UnauthenticatedError and
        PermissionDeniedError, also in the middle of a call whose person may go on no longer.
        """
        try:
            person = self._check(method, context)
        except ThingsvisionError as error:
            self._record_refusal(method, context, error)
            raise
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call must run in a task")
        visit = _Visit(task, lambda: self._check(method, context))
        self._visits.add(visit)
        try:
            with act_as(person):
                yield person
        except asyncio.CancelledError:
            if visit.error is None:
                raise
            self._record_refusal(method, context, visit.error)
            raise visit.error from None
        finally:
            self._visits.discard(visit)

    def end_invalid(self) -> None:
        """End the calls whose token was revoked or has expired, or whose scope is gone."""
        for visit in [*self._visits]:
            if visit.error is not None:
                continue
            try:
                visit.check()
            except ThingsvisionError as error:
                visit.error = error
                visit.task.cancel()

    def _check(self, method: str, context: _Context) -> Person:
        """Return who makes a call. Raises an error if that person may not make it."""
        try:
            person = self._identify(context)
        except UnauthenticatedError as error:
            raise self._with_contact(error) from None
        name, scope = method.rpartition("/")[2], METHOD_SCOPES.get(method)
        if scope is None:
            raise PermissionDeniedError(f"this server lets nobody call {name}", subject=name)
        self._require(person, scope, name)
        return person

    def _record_refusal(self, method: str, context: _Context, error: ThingsvisionError) -> None:
        self.audit.record_refusal(
            method.rpartition("/")[2],
            refused=type(error).__name__,
            client=self.client_of(context),
            detail=shorten(str(error)),
        )

    def _with_contact(self, error: UnauthenticatedError) -> UnauthenticatedError:
        sentence = f"{error}; {self._contact} gives tokens"
        return UnauthenticatedError(sentence, subject=error.subject)

    def _identify(self, context: _Context) -> Person:
        subject = _subject_in(context)
        if subject:
            _check_dates(context, subject)
        if self._register is None:
            return (
                person_of_certificate(subject)
                if subject
                else person_of_peer(host_of_peer(context.peer()))
            )
        register = self._register.content
        token = _token_in(_values(context, TOKEN_KEY))
        if token is not None:
            return register.person_with_token(token)
        if self._is_gateway(context, subject):
            # Its own certificate grants nothing: the call is of who called the gateway.
            subject = find_client_subject(_values(context, CERTIFICATE_KEY))
        if subject:
            return register.person_with_certificate(subject)
        raise UnauthenticatedError(
            "this server asks for a token, and the call has none: set THINGSVISION_TOKEN, write it "
            "into ~/.config/thingsvision/token, or pass token=..."
        )

    def _is_gateway(self, context: _Context, subject: str) -> bool:
        if self._socket_is_gateway and context.peer().startswith("unix:"):
            return True
        return (
            bool(subject)
            and self._register is not None
            and self._register.content.is_gateway(subject)
        )

    def _require(self, person: Person, scope: Scope, what: str) -> None:
        if person.holds(scope):
            return
        held = ", ".join(sorted(one.value for one in person.scopes))
        raise PermissionDeniedError(
            f"{what} needs the scope `{scope.value}`, and the {person.credential} of "
            f"{person.name} has {held}: {self._contact} gives scopes "
            f"(thingsvision-server token new --scopes {scope.value},...)",
            field="scope",
            subject=scope.value,
        )


def _token_in(values: Sequence[str]) -> str | None:
    """Return the token in a call's metadata, or None.

    Raises UnauthenticatedError for what is not a token.
    """
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != _BEARER or not token:
        raise UnauthenticatedError(f"the metadata `{TOKEN_KEY}` must be `Bearer` and a token, once")
    return token


def _values(context: _Context, key: str) -> list[str]:
    return [str(value) for name, value in context.invocation_metadata() or () if name == key]


def _subject_in(context: _Context) -> str:
    """Return the subject of the client certificate that TLS has verified; empty without one."""
    found: Any = context.auth_context().get("x509_subject")
    return found[0].decode("utf-8", "replace") if found else ""


def _check_dates(context: _Context, subject: str) -> None:
    """Raise UnauthenticatedError if the certificate of a connection that goes on has expired."""
    found: Any = context.auth_context().get("x509_pem_cert")
    what = f"the certificate {subject}"
    try:
        end = end_of_certificate(bytes(found[0]) if found else b"")
    except ValueError as error:
        raise UnauthenticatedError(f"{what} can't be read: {error}", subject=subject) from None
    if end <= datetime.now(timezone.utc):
        raise UnauthenticatedError(f"{what} expired on {end:%Y-%m-%d %H:%M %Z}", subject=subject)


def host_of_peer(peer: str) -> str:
    """Return a peer's gRPC address without its port: `ipv4:10.0.0.7`."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


def person_of(context: _Context) -> Person:
    """Return who makes a call; of a call that no entrance has let in, the client's machine."""
    try:
        return caller()
    except LookupError:
        return person_of_peer(host_of_peer(context.peer()))

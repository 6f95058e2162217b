"""The person who makes a call: whom work is counted for, and who owns what the call leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .scopes import ALL_SCOPES, Scope


@dataclass(frozen=True)
class Person:
    """Who makes a call.

    Attributes:
        name: The name in the tokens file; without tokens the client's address without its port.
        scopes: What the person may do.
        group: The group that the person may share with; empty for none.
        credential: What identified the person, as logs show it, such as `token 4fQ2`: never a
            secret.
        is_named: Whether the tokens file has the name. A person who is not named is a machine.

    """

    name: str
    scopes: frozenset[Scope]
    group: str = ""
    credential: str = ""
    is_named: bool = True

    def holds(self, scope: Scope) -> bool:
        """Return whether the person has a scope; an admin has all of them."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


_current: ContextVar[Person] = ContextVar("person")

SERVER = Person("", ALL_SCOPES, is_named=False)
"""The server itself: what it does for several people at once, it does for none of them."""


def caller() -> Person:
    """Return who makes the call that this task, or a thread that it started, works for.

    Raises LookupError outside of a call.
    """
    return _current.get()


def caller_name() -> str:
    """Return the name of whoever makes the call; empty outside of a call."""
    person = _current.get(None)
    return "" if person is None else person.name


def viewer() -> Person:
    """Return who makes the call, and outside of a call the server itself, which sees all."""
    return _current.get(SERVER)


@contextmanager
def act_as(person: Person) -> Iterator[None]:
    """Make a person the current person while the context lasts."""
    before = _current.set(person)
    try:
        yield
    finally:
        _current.reset(before)


def person_of_certificate(subject: str) -> Person:
    """Return the person of a server without tokens who has shown a certificate."""
    return Person(subject, ALL_SCOPES, credential=f"certificate {subject}")


def sender_name(person: Person) -> str:
    """Return whose interrupted work a person may resume: of one machine, by any local address."""
    is_local = person.name.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:"))
    return "this machine" if is_local and not person.is_named else person.name


def person_of_peer(host: str) -> Person:
    """Return the person of a server without tokens: the client's machine, which may do all."""
    return Person(host, ALL_SCOPES, credential=f"address {host}", is_named=False)

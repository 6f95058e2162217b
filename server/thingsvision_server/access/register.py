"""The register of people: the tokens and certificates that a tokens file lists."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ..errors import UnauthenticatedError
from .owners import OPERATOR
from .person import Person
from .scopes import Scope
from .tokens import has_digest, id_of

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
_SUBJECT = r"^\S(.*\S)?$"

Name = Annotated[str, Field(pattern=_NAME)]
"""A person's or a group's name: up to 64 letters, digits and `._@+-`."""


class _Row(BaseModel):
    # A misspelt `expires` must be an error, not a token that lasts for ever.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grant(_Row):
    """What the file grants to a person."""

    name: Name
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    group: Literal[""] | Name = ""
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    @model_validator(mode="after")
    def _check_operator(self) -> Grant:
        if self.name == OPERATOR and Scope.ADMIN not in self.scopes:
            raise ValueError(
                f"the name {OPERATOR!r} owns what was stored before there were owners, so its "
                f"scopes must include {Scope.ADMIN.value!r}; choose another name"
            )
        return self

    @property
    def credential(self) -> str:
        """What identifies the person, without a secret."""
        raise NotImplementedError

    def person(self) -> Person:
        """Return the person, unless the grant was revoked or has expired.

        Raises UnauthenticatedError.
        """
        now = datetime.now(timezone.utc)
        for ended, what in ((self.revoked, "was revoked"), (self.expires, "expired")):
            if ended is not None and ended <= now:
                raise UnauthenticatedError(
                    f"the {self.credential} of {self.name} {what} on {ended:%Y-%m-%d %H:%M %Z}",
                    subject=self.credential,
                )
        return Person(self.name, frozenset(self.scopes), self.group, self.credential)


class TokenGrant(Grant):
    """A token, of which the file knows the SHA-256."""

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,32}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def credential(self) -> str:
        """The token's id."""
        return f"token {self.id}"


class CertificateGrant(Grant):
    """The subject of a client certificate, in the form of RFC 2253: `CN=ada,O=lab`."""

    subject: Annotated[str, Field(pattern=_SUBJECT)]

    @property
    def credential(self) -> str:
        """The certificate's subject."""
        return f"certificate {self.subject}"


class Gateway(_Row):
    """The subject of a gateway's client certificate, whose `x-forwarded-*` metadata is believed."""

    subject: Annotated[str, Field(pattern=_SUBJECT)]


class Register(_Row):
    """Everybody whom a tokens file lets in."""

    version: Literal[1] = 1
    tokens: tuple[TokenGrant, ...] = ()
    certificates: tuple[CertificateGrant, ...] = ()
    gateways: tuple[Gateway, ...] = ()

    @model_validator(mode="after")
    def _check_unique(self) -> Register:
        subjects = [row.subject for row in self.certificates]
        subjects += [row.subject for row in self.gateways]
        for what, keys in (("token id", [row.id for row in self.tokens]), ("subject", subjects)):
            twice = [key for key, count in Counter(keys).items() if count > 1]
            if twice:
                raise ValueError(f"the {what} {twice[0]!r} must be there once")
        return self

    @cached_property
    def _tokens(self) -> dict[str, TokenGrant]:
        return {row.id: row for row in self.tokens}

    @cached_property
    def _certificates(self) -> dict[str, CertificateGrant]:
        return {row.subject: row for row in self.certificates}

    @cached_property
    def _gateways(self) -> frozenset[str]:
        return frozenset(row.subject for row in self.gateways)

    def person_with_token(self, token: str) -> Person:
        """Return the person whom a token identifies. Raises UnauthenticatedError."""
        row = self._tokens.get(id_of(token) or "")
        if not has_digest(token, row.sha256 if row else None) or row is None:
            raise UnauthenticatedError("the call's token is not one of this server's tokens")
        return row.person()

    def person_with_certificate(self, subject: str) -> Person:
        """Return the person whom a client certificate identifies. Raises UnauthenticatedError."""
        if subject not in self._certificates:
            raise UnauthenticatedError(
                f"the tokens file of this server has no certificate with the subject {subject!r}",
                subject=subject,
            )
        return self._certificates[subject].person()

    def knows(self, name: str) -> bool:
        """Return whether somebody has a name; a token that was revoked or has expired is enough."""
        return any(row.name == name for row in (*self.tokens, *self.certificates))

    def is_gateway(self, subject: str) -> bool:
        """Return whether a client certificate is a gateway's."""
        return subject in self._gateways

    def dump(self) -> dict[str, Any]:
        """Return the register as the JSON object of a tokens file."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"version": self.version}

"""What a client shows to a server, a token or a certificate, and which certificates it trusts."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import grpc

from ..errors import InvalidRequestError, UnauthenticatedError
from .address import is_encrypted, is_on_this_machine
from .proxies import Route
from .tls_files import TLSFiles

TOKEN_VARIABLE = "THINGSVISION_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE_VARIABLE = "THINGSVISION_TOKEN_FILE"  # noqa: S105 - a variable's name
CA_VARIABLE = "THINGSVISION_CA"
CERT_VARIABLE = "THINGSVISION_CERT"
KEY_VARIABLE = "THINGSVISION_KEY"

TOKEN_FILE = Path("~/.config/thingsvision/token")
"""Where a token is found that neither an argument nor a variable has."""

_TOKEN_KEY = "authorization"  # noqa: S105 - the key of the metadata
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What RFC 6750 lets follow `Bearer`; tokens of other servers than ours may have other parts."""

Metadata = tuple[tuple[str, str], ...]


class Credentials:
    """A token, or where it is found at each call, and the files of TLS.

    Args:
        token: The token; None finds it in THINGSVISION_TOKEN, in the file that
            THINGSVISION_TOKEN_FILE names, or in ~/.config/thingsvision/token.
        files: PEM files; those that are empty are found by THINGSVISION_CA, THINGSVISION_CERT and
            THINGSVISION_KEY.
        plain_token: True sends the token to other machines without encryption.

    A copy in this process is the same object. A pickle has no token: who gets it finds one again.

    Raises:
        InvalidRequestError: The token can't be one; the error does not show it.

    """

    def __init__(
        self,
        token: str | None = None,
        files: TLSFiles | None = None,
        *,
        plain_token: bool = False,
    ) -> None:
        self._token = None if token is None else _check_token(token, "`token`")
        self._files = files or TLSFiles()
        self._plain_token = plain_token
        self._lost_token = False

    def override(self, token: str | None, files: TLSFiles, *, plain_token: bool) -> Credentials:
        """Return these credentials with those that are given, which are not None or empty."""
        own = self._files
        found = Credentials(
            token,
            TLSFiles(files.ca or own.ca, files.cert or own.cert, files.key or own.key),
            plain_token=plain_token or self._plain_token,
        )
        found._token = found._token or self._token
        found._lost_token = self._lost_token and token is None
        return found

    def __copy__(self) -> Credentials:
        return self

    def __deepcopy__(self, _memo: object) -> Credentials:
        return self

    def __getstate__(self) -> dict[str, Any]:
        lost = self._lost_token or self._token is not None
        return vars(self) | {"_token": None, "_lost_token": lost}

    @property
    def has_files(self) -> bool:
        """Whether files of TLS were given, other than by the environment."""
        return self._files != TLSFiles()

    @property
    def files(self) -> TLSFiles:
        """The files of TLS, with what the environment names."""
        own = self._files
        return TLSFiles(
            own.ca or os.environ.get(CA_VARIABLE, ""),
            own.cert or os.environ.get(CERT_VARIABLE, ""),
            own.key or os.environ.get(KEY_VARIABLE, ""),
        )

    def check(self, route: Route) -> None:
        """Raise InvalidRequestError if the token was given for a way on which it can be read."""
        if self._token is not None and not self._may_send(route):
            raise InvalidRequestError(_unsafe(route))

    def metadata(self, route: Route) -> Metadata:
        """Return the metadata of a call that shows the token, if there is one to show.

        Raises UnauthenticatedError for a token that did not come with the pickle of a client, and
        for a token file that others may read.
        """
        if self._lost_token:
            raise UnauthenticatedError(
                f"The token of this client of {route.address} was given as token=..., which a "
                f"pickle leaves out: set {TOKEN_VARIABLE} instead, or call "
                f"thingsvision_client.connect({route.address!r}, token=...) in this process and "
                "make the client here."
            )
        if not self._may_send(route):
            return ()
        token = self._token or _find_token()
        return ((_TOKEN_KEY, f"Bearer {token}"),) if token else ()

    def advice(self, route: Route) -> str:
        """Return a sentence for a call that was refused because it had no token, or an empty text.

        It says why a token that is there was not sent.
        """
        if self._may_send(route) or not (self._token or _find_token()):
            return ""
        return _unsafe(route)

    def _may_send(self, route: Route) -> bool:
        if is_encrypted(route.address):
            return True
        return route.is_direct and (self._plain_token or is_on_this_machine(route.address))

    def for_channel(self) -> grpc.ChannelCredentials:
        """Return the credentials of an encrypted channel.

        Raises InvalidRequestError for files that can't be used.
        """
        files = self.files
        if bool(files.cert) != bool(files.key):
            raise InvalidRequestError(
                "`cert` and `key` must be given together: a certificate and its private key "
                f"({CERT_VARIABLE}, {KEY_VARIABLE})."
            )
        files.check()
        return grpc.ssl_channel_credentials(*files.read())

    def certificate_fault(self, route: Route) -> str:
        """Return a sentence if no server can accept the client's own certificate, or nothing."""
        reason = self.files.own_fault() if is_encrypted(route.address) else ""
        return reason and (
            f"Your certificate {self.files.cert} is not valid now ({reason}), so the server at "
            f"{route.address} does not let you in: have it made anew, and look at this machine's "
            "clock."
        )


def _unsafe(route: Route) -> str:
    way = "without encryption" if route.is_direct else f"through the proxy {route.shown_url}"
    return (
        f"A token is not sent to {route.address} {way}, where others could read it: encrypt with "
        f"server='grpcs://...', or use an SSH tunnel; plain_token=True sends it anyway."
    )


def _find_token() -> str:
    """Return the token that the environment or the user's file has, or an empty text."""
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return _check_token(token, TOKEN_VARIABLE)
    named = os.environ.get(TOKEN_FILE_VARIABLE, "")
    path = Path(named or TOKEN_FILE).expanduser()
    if not named and not path.exists():
        return ""
    return _check_token(_read_private(path), f"the token in {path}")


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(10_000)
    except OSError as error:
        reason = error.strerror or error
        raise UnauthenticatedError(f"The token file {path} can't be read: {reason}.") from error
    if os.name == "posix" and mode & _OTHERS:
        raise UnauthenticatedError(
            f"The token file {path} must be readable by you alone, got mode "
            f"{stat.S_IMODE(mode):04o}: run chmod 600 {path}."
        )
    return content.decode("utf-8-sig", "replace").strip()


def _check_token(token: str, what: str) -> str:
    """Return a token without blanks around it. Raises InvalidRequestError, which never shows it."""
    found = token.strip()
    if not _BEARER.fullmatch(found):
        raise InvalidRequestError(
            f"{what} must be one line as `thingsvision-server token new` prints it, tv_..., got "
            f"{_describe(found)}."
        )
    return found


def _describe(text: str) -> str:
    """Return what a text is that can't be a token, without showing it."""
    if not text:
        return "an empty text"
    if (line_count := len(text.splitlines())) > 1:
        return f"{line_count} lines"
    if text[:1] in "\"'":
        return "quotation marks around it"
    if text.lower().startswith("bearer "):
        return "the word Bearer before it"
    return f"{len(text)} characters that are not a token"


_NOTHING = Credentials()
_everywhere = _NOTHING
_by_address: dict[str, Credentials] = {}


def set_credentials(address: str, credentials: Credentials) -> None:
    """Have all later clients of this process call a server with these credentials."""
    _by_address[address] = credentials


def set_credentials_everywhere(credentials: Credentials) -> None:
    """Have all later clients of this process call any server with these credentials."""
    global _everywhere
    _everywhere = credentials


def encrypts_everywhere() -> bool:
    """Return whether this process was told files of TLS for every server."""
    return _everywhere.has_files


def credentials_for(address: str) -> Credentials:
    """Return the credentials for a server, as this process was told, else the environment's."""
    return _by_address.get(address, _everywhere)

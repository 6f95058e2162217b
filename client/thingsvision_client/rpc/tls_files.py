"""The PEM files of TLS: whom a client trusts, and the certificate that it shows."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidRequestError


@dataclass(frozen=True)
class TLSFiles:
    """PEM files: of the CA to trust, and of the client's own certificate with its key."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    def check(self) -> None:
        """Raise InvalidRequestError for files that gRPC would fail with at each connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca:
                name = "ca"
                context.load_verify_locations(_path(self.ca))
            if self.cert:
                name = "cert"
                context.load_cert_chain(_path(self.cert), _path(self.key), password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            given = f"{self.ca!r}" if name == "ca" else f"{self.cert!r} with `key` {self.key!r}"
            raise InvalidRequestError(
                f"`{name}` must be a PEM file of certificates that can be read, got {given}: "
                f"{error}."
            ) from error

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the content of the CA's file, the key and the certificate; None without one."""
        ca, key, cert = (
            _path(one).read_bytes() if one else None for one in (self.ca, self.key, self.cert)
        )
        return ca, key, cert

    def own_fault(self) -> str:
        """Return why no server can accept the client's own certificate, or an empty text.

        Its dates are checked by a handshake in memory that trusts this certificate alone.
        """
        if not self.cert:
            return ""
        try:
            _shake_hands(_path(self.cert), _path(self.key))
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message
            return reason if "expired" in reason or "not yet valid" in reason else ""
        except (OSError, ValueError):
            return ""
        return ""


def _shake_hands(cert: Path, key: Path) -> None:
    server, client = (
        ssl.SSLContext(one) for one in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    )
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.load_cert_chain(cert, key, password="")
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    server.load_verify_locations(cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there)]
    for _ in range(3):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def _path(text: str) -> Path:
    return Path(text).expanduser()

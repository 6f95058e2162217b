"""TLS of the server: its certificate, which is read again when its files change."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from ..access.key_file import find_key_fault
from ..access.watched import Watched
from ..errors import PreconditionError


@dataclass(frozen=True)
class TLSFiles:
    """The files of a server's certificate: `authorities` are those of client certificates."""

    certificate: Path
    key: Path
    authorities: Path | None = None


class ServerTLS:
    """The credentials of listeners that encrypt; a new certificate serves new connections.

    Args:
        files: PEM files; with `authorities`, clients must have a certificate of one of them.
        report: Gets whether the files as they are now can't be used.

    Raises PreconditionError for files that can't be used.

    """

    def __init__(self, files: TLSFiles, report: Callable[[bool], None]) -> None:
        self._files = files
        paths = [one for one in (files.certificate, files.key, files.authorities) if one]
        self._pages: list[ssl.SSLContext] = []
        self._watched = Watched("the TLS certificates", paths, lambda: _read(files), report)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for a listener."""
        served: list[Any] = [self._watched.content]

        def fetch() -> Any:
            # gRPC asks at each new connection, in a thread of its own: no file is read here.
            if served[0] is self._watched.content:
                return None
            served[0] = self._watched.content
            return served[0]

        required = self._files.authorities is not None
        return grpc.dynamic_ssl_server_credentials(served[0], fetch, required)

    def look(self) -> None:
        """Read the files again if they changed."""
        if self._watched.look():
            for page in self._pages:
                page.load_cert_chain(self._files.certificate, self._files.key)

    def page_context(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Return the context of a page by HTTPS, with the certificate as it is from now on."""
        context.load_cert_chain(self._files.certificate, self._files.key)
        self._pages.append(context)
        return context


def _read(files: TLSFiles) -> Any:
    """Return gRPC's configuration of the files, which OpenSSL has accepted."""
    certificate, key = _read_file(files.certificate), _read_file(files.key)
    if fault := find_key_fault(files.key):
        raise PreconditionError(f"{files.key} {fault}: chmod 600 it")
    try:
        # gRPC takes any bytes, and fails at each connection.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            files.certificate, files.key, password=_refuse_password
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise PreconditionError(
            f"{files.certificate} and {files.key} must be a PEM certificate and its private key, "
            f"without a password: {error}"
        ) from error
    if (certificate, key) != (_read_file(files.certificate), _read_file(files.key)):
        raise PreconditionError(f"{files.certificate} or {files.key} is being replaced")
    authorities = _read_authorities(files.authorities) if files.authorities else None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)


def _refuse_password() -> str:
    raise ValueError("the key is encrypted")


def _read_authorities(path: Path) -> bytes:
    content = _read_file(path)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(cadata=content.decode("ascii"))
    except ValueError as error:
        raise PreconditionError(f"{path} must have PEM certificates: {error}") from error
    except ssl.SSLError as error:
        raise PreconditionError(f"{path} must have PEM certificates: {error}") from error
    return content


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PreconditionError(f"can't read {path}: {error.strerror}") from error

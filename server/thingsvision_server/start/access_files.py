"""Finds mistakes in the files that say who may come in, before any library is loaded."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from ..access.key_file import find_key_fault
from ..access.tokens_file import read_register
from ..errors import PreconditionError
from ..settings import Settings


def find_file_mistakes(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each file of tokens or TLS that can't be used."""
    if settings.tokens is not None:
        try:
            read_register(settings.tokens.expanduser())
        except PreconditionError as error:
            yield f"--tokens can't be used: {error}"
    if settings.tls_cert is not None and settings.tls_key is not None:
        yield from _check_certificate(settings.tls_cert.expanduser(), settings.tls_key.expanduser())


def _check_certificate(certificate: Path, key: Path) -> Iterator[str]:
    for option, path in {"--tls-cert": certificate, "--tls-key": key}.items():
        try:
            path.open("rb").close()
        except OSError as error:
            yield f"{option} must be a PEM file, got {str(path)!r}: {error.strerror}"
            return
    if fault := find_key_fault(key):
        yield f"--tls-key {key} {fault}: chmod 600 it"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=_refuse)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        yield (
            f"{certificate} and {key} must be a PEM certificate and its private key, without a "
            f"password: {error}"
        )


def _refuse() -> str:
    raise ValueError("the key is encrypted")

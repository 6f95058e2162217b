"""Reads when a client's certificate ends, which TLS looks at only when a connection begins."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_YEARS = {_UTC_TIME: "%y", _GENERALIZED_TIME: "%Y"}
"""The kinds of times in a certificate: UTCTime and GeneralizedTime (RFC 5280, 4.1.2.5)."""

_VERSION = 0xA0


@lru_cache(maxsize=1024)
def end_of_certificate(pem: bytes) -> datetime:
    """Return the end of the validity of a certificate that TLS has verified, in PEM.

    Raises ValueError for what can't be read as a certificate.
    """
    try:
        certificate = ssl.PEM_cert_to_DER_cert(pem.decode("ascii").strip())
        (_, whole), *_ = _elements(certificate)
        (_, signed), *_ = _elements(whole)
        # Version (may be missing), serial number, algorithm, issuer, validity.
        fields = [one for one in _elements(signed) if one[0] != _VERSION]
        _, (kind, end) = _elements(fields[3][1])
        read = datetime.strptime(end.decode("ascii"), f"{_YEARS[kind]}%m%d%H%M%S%z")
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(f"the end of the certificate can't be read: {error}") from error
    # RFC 5280: years of two digits are of 1950 to 2049; Python takes 69 to 99 for 1969 to 1999.
    is_past = kind == _UTC_TIME and read.year >= 2050
    return read.replace(year=read.year - 100) if is_past else read


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tags and the contents of the elements of DER that lie side by side."""
    place = 0
    while place < len(content):
        tag, length = content[place], content[place + 1]
        place += 2
        if length & 0x80:
            digits = length & 0x7F
            length = int.from_bytes(content[place : place + digits])
            place += digits
        if place + length > len(content):
            raise ValueError("an element is longer than what holds it")
        yield tag, content[place : place + length]
        place += length

"""What a gateway says about a caller: the address, and the subject of the client certificate."""

from __future__ import annotations

import re
from collections.abc import Iterable

FOR_KEY = "x-forwarded-for"
CERTIFICATE_KEY = "x-forwarded-client-cert"

_FIELD = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"]*)\s*([;,]?)')


def find_client_address(values: Iterable[str]) -> str:
    """Return the address that the last gateway saw; empty without one."""
    return ",".join(values).rpartition(",")[2].strip()


def find_client_subject(values: Iterable[str]) -> str:
    """Return the subject of the certificate that the last gateway checked; empty without one.

    The metadata has an element for each gateway on the way, `By=...;Hash=...;Subject="..."`, of
    which the last is the gateway's that calls. What can't be read is no subject.
    """
    text, place, subject = ",".join(values), 0, ""
    while place < len(text):
        field = _FIELD.match(text, place)
        if field is None or field.end() == place:
            return ""
        name, value, end = field.groups()
        if name.lower() == "subject":
            quoted = value.startswith('"')
            subject = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value
        place = field.end()
        if end == "," and place < len(text):
            subject = ""  # of another gateway, further away
        elif not end and place < len(text):
            return ""
    return subject

"""Sentences for connections that fail because of encryption, from the words of gRPC and OpenSSL."""

from __future__ import annotations

import re

from .address import is_encrypted, target_of

_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([^:]*)")
_OTHER_HOST = re.compile(r"[Hh]ostname [Vv]erification [Cc]heck failed|No match found for server")
_PLAIN_SERVER = "WRONG_VERSION_NUMBER"
_CLOSED = re.compile(r"Socket closed|[Cc]onnection reset|Broken pipe|tlsv1\d? alert|TLSV1")


def certificate_fault(address: str, text: str) -> str:
    """Return a sentence if gRPC's `text` says that the server's certificate is not accepted."""
    if _OTHER_HOST.search(text):
        return (
            f"The certificate of the server at {address} is valid, but not for this host: write "
            "the name that it was made for, or have it made for this name too."
        )
    if found := _UNTRUSTED.search(text):
        reason = found[1].strip()
        if "expired" in reason or "not yet valid" in reason:
            return (
                f"The certificate of the server at {address} is not valid now ({reason}): tell "
                "its operator, and look at this machine's clock."
            )
        return (
            f"The certificate of the server at {address} is of an authority that this client does "
            f"not trust ({reason}): pass the authority's file, ca='ca.pem', or set "
            "THINGSVISION_CA; the server's operator has it."
        )
    if _PLAIN_SERVER in text:
        return (
            f"The server at {address} does not encrypt: write {target_of(address)}, without "
            "grpcs://, if you trust the way to it."
        )
    return ""


def closed_sentence(address: str, text: str) -> str:
    """Return what may be wrong about encryption if a server closed the connection, or nothing."""
    if not _CLOSED.search(text):
        return ""
    if is_encrypted(address):
        advice = (
            "if it asks for the certificate of its clients, pass one that is valid and of an "
            "authority that it trusts, cert=..., key=..."
        )
    else:
        advice = f"if it encrypts, write grpcs://{address}"
    return f"The server at {address} closed the connection ({text}): {advice}; else try again."

"""Connections to a server: which address, with which options; knows no model and no message."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from uuid import uuid4

import grpc

from thingsvision_proto.model_id import METADATA_KEY, REQUEST_ID_KEY

from ..errors import NoServerError, UnknownModelError

SERVER_VARIABLE = "THINGSVISION_SERVER"

_HOW_TO_NAME = (
    f"set {SERVER_VARIABLE}=host:port, pass server='host:port', or call "
    "thingsvision_client.connect('host:port'); `thingsvision-server` starts one"
)

# A call that never reached the server's code is tried again: gRPC stops by itself
# as soon as a reply has begun.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),  # an image is one message
    # Servers and proxies close connections that are pinged more often than this by default.
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps(_RETRIES)),
]

_default_address = ""


def set_default_address(address: str) -> None:
    """Make `address` (host:port) the server of every later call of this process."""
    global _default_address
    _default_address = checked_address(address)


def resolve_address(server: str | None = None) -> str:
    """Return the address to call: the argument, else the process default, else the environment.

    Raises NoServerError where none of them names one.
    """
    address = server or _default_address or os.environ.get(SERVER_VARIABLE, "")
    if not address:
        raise NoServerError(f"No THINGSvision server is named: {_HOW_TO_NAME}.")
    return checked_address(address)


def checked_address(address: str) -> str:
    """Return `address` as it is, or raise NoServerError where it names no port or socket."""
    if re.search(r":\d+$", address) or address.startswith("unix:"):
        return address
    raise NoServerError(f"{address!r} is no address of the form host:port: {_HOW_TO_NAME}.")


def open_channel(address: str) -> grpc.Channel:
    """Return a channel that connects when it is first used, and again when it has broken."""
    return grpc.insecure_channel(address, options=OPTIONS)


def call_metadata(model_id: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of one call about a model (or `*`), with a new request id.

    Raises UnknownModelError for a name that is not of ASCII, as those of all models are: metadata
    can't have others, and gRPC would say so in the server's name.
    """
    if not (model_id.isascii() and model_id.isprintable()):
        given = model_id.removesuffix("@default")
        raise UnknownModelError(_strange(given), field="model", subject=given)
    return ((METADATA_KEY, model_id), (REQUEST_ID_KEY, uuid4().hex))


def _strange(name: str) -> str:
    """Return a sentence on a name as it is pasted from a PDF, with the one that is meant."""
    letter = next(one for one in name if not (one.isascii() and one.isprintable()))
    called = unicodedata.name(letter, f"U+{ord(letter):04X}")
    meant = "".join(map(_in_ascii, unicodedata.normalize("NFKD", name)))
    hint = f"; did you mean {meant!r}?" if meant.isascii() and meant.isprintable() else "."
    return (
        f"There is no model {name!r}: it has the character {letter!r} ({called}), and models' "
        f"names have ASCII alone{hint}"
    )


def _in_ascii(letter: str) -> str:
    """Return what is typed for a dash or a space; accents and what is not seen are nothing."""
    return {"Pd": "-", "Zs": " ", "Mn": "", "Cf": ""}.get(unicodedata.category(letter), letter)

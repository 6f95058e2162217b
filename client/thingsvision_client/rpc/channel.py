"""The channel to a server: its address, its options, and the metadata of calls."""

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

# A call that never reached the server's code is retried: gRPC stops by itself as soon as a
# reply has begun.
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
    _default_address = check_address(address)


def resolve_address(server: str | None = None) -> str:
    """Return the address to call: the argument, else the process default, else the environment.

    Raises NoServerError if none of them is set.
    """
    address = server or _default_address or os.environ.get(SERVER_VARIABLE, "")
    if not address:
        raise NoServerError(f"No THINGSvision server is set: {_HOW_TO_NAME}.")
    return check_address(address)


def check_address(address: str) -> str:
    """Return `address` unchanged, or raise NoServerError if it has no port or socket."""
    if re.search(r":\d+$", address) or address.startswith("unix:"):
        return address
    raise NoServerError(
        f"The address of a server must be host:port, got {address!r}: {_HOW_TO_NAME}."
    )


def open_channel(address: str) -> grpc.Channel:
    """Return a channel that connects at its first use, and reconnects after a failure."""
    return grpc.insecure_channel(address, options=OPTIONS)


def call_metadata(model_id: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of one call about a model (or `*`), with a new request id.

    Raises UnknownModelError for a name that is not ASCII, as the names of all models are: metadata
    can't hold it, and gRPC would report that as the server's error.
    """
    if not (model_id.isascii() and model_id.isprintable()):
        given = model_id.removesuffix("@default")
        raise UnknownModelError(_not_ascii_text(given), field="model", subject=given)
    return ((METADATA_KEY, model_id), (REQUEST_ID_KEY, uuid4().hex))


def _not_ascii_text(name: str) -> str:
    """Return an error text for a name pasted from a PDF, for example, with a suggestion."""
    letter = next(one for one in name if not (one.isascii() and one.isprintable()))
    called = unicodedata.name(letter, f"U+{ord(letter):04X}")
    meant = "".join(map(_in_ascii, unicodedata.normalize("NFKD", name)))
    hint = f"; did you mean {meant!r}?" if meant.isascii() and meant.isprintable() else "."
    return (
        f"There is no model {name!r}: it has the character {letter!r} ({called}), and names of "
        f"models are ASCII{hint}"
    )


def _in_ascii(letter: str) -> str:
    """Return the ASCII character for a dash or a space, and nothing for accents and invisibles."""
    return {"Pd": "-", "Zs": " ", "Mn": "", "Cf": ""}.get(unicodedata.category(letter), letter)

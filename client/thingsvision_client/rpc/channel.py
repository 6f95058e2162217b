"""The channel to a server: its options, and the metadata of calls."""

from __future__ import annotations

import unicodedata
from uuid import uuid4

import grpc

from thingsvision_proto.model_id import (
    METADATA_KEY,
    REQUEST_ID_KEY,
    SERVER_KEY,
    SHARD_KEY,
    VERSION_KEY,
    server_mark,
)

from ..errors import UnknownModelError
from ..values.version import client_version
from .address import is_encrypted, target_of
from .credentials import Credentials
from .proxies import Route

OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),  # an image is one message
    # gRPC's own retries can hang for ever (grpc/grpc issue 41036): see `attempts.py`.
    ("grpc.enable_retries", 0),
    # A connection that died during a call is noticed within 50 s, also while the server computes
    # and sends nothing. Servers of gRPC close connections that are pinged more often than they
    # permit: `grpc.http2.min_ping_interval_without_data_ms` of ours is lower.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # a minute by default, whatever the line above says
    ("grpc.http2.max_pings_without_data", 0),
    # By default, connecting may take 20 s, name servers 120 s, and a server that is back is
    # found after up to 120 s.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.dns_ares_query_timeout", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


def open_channel(route: Route, credentials: Credentials) -> grpc.Channel:
    """Return a channel that connects at its first use, and reconnects after a failure."""
    options = [*OPTIONS, ("grpc.enable_http_proxy", 0)] if route.is_direct else OPTIONS
    target = target_of(route.address)
    if is_encrypted(route.address):
        return grpc.secure_channel(target, credentials.for_channel(), options=options)
    return grpc.insecure_channel(target, options=options)


def call_metadata(model_id: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of one call about a model (or `*`), with a new request id.

    Raises UnknownModelError for a name that is not ASCII, as the names of all models are: metadata
    can't hold it, and gRPC would report that as the server's error.
    """
    if not (model_id.isascii() and model_id.isprintable()):
        given = model_id.removesuffix("@default")
        raise UnknownModelError(_not_ascii_text(given), field="model", subject=given)
    version = (VERSION_KEY, client_version())
    return ((METADATA_KEY, model_id), version, (REQUEST_ID_KEY, uuid4().hex))


def server_metadata(address: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call for one server of a cluster; nothing for any server."""
    return ((SERVER_KEY, server_mark(address)),) if address else ()


def shard_metadata(shard: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call for a part of a long extraction; nothing for other calls."""
    return ((SHARD_KEY, shard),) if shard else ()


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

"""Addresses where nothing answers, each in its own way, and a name server of the test's own."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LOCALHOST = socket.inet_aton("127.0.0.1")
TYPE_A = 1


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@contextmanager
def filtered_port() -> Iterator[int]:
    """A port that answers no attempt to connect: the queue of its listener is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def name_server(*, answers: bool) -> Iterator[str]:
    """A name server, host:port; every name is 127.0.0.1, or it does not answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
        if not answers:
            yield f"127.0.0.1:{address[1]}"
            return
        thread = threading.Thread(target=_answer_all, args=(listener,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{address[1]}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", address)
        thread.join(10)


def _answer_all(listener: socket.socket) -> None:
    while True:
        query, asker = listener.recvfrom(4096)
        if not query:
            return
        question = query[12 : query.index(0, 12) + 5]
        is_address = struct.unpack(">H", question[-4:-2])[0] == TYPE_A
        head = query[:2] + struct.pack(">5H", 0x8180, 1, is_address, 0, 0)
        record = struct.pack(">3HIH", 0xC00C, TYPE_A, 1, 60, len(LOCALHOST)) + LOCALHOST
        listener.sendto(head + question + (record if is_address else b""), asker)

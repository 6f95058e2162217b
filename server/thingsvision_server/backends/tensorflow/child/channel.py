"""Messages between the server and TensorFlow's process: JSON, and shared memory.

Batches and activations are in anonymous files, whose descriptors the messages carry. An anonymous
file has no name, so a process that dies leaves nothing behind.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import tempfile
from dataclasses import dataclass, field
from typing import Any

_LENGTH = struct.Struct("!I")
_ALIGNMENT = 64

Message = dict[str, Any]


class PeerGoneError(Exception):
    """The process at the other end is gone."""


@dataclass
class Channel:
    """One end of a socket pair, with one request in flight at a time."""

    socket: socket.socket

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message with open files; raise PeerGoneError."""
        body = json.dumps(message).encode()
        try:
            socket.send_fds(self.socket, [_LENGTH.pack(len(body))], list(descriptors))
            self.socket.sendall(body)
        except OSError as error:
            raise PeerGoneError from error

    def receive(self) -> tuple[Message, list[int]]:
        """Return the next message and its open files; raise PeerGoneError."""
        try:
            head, descriptors, _, _ = socket.recv_fds(self.socket, _LENGTH.size, 1)
            head += self._receive_exactly(_LENGTH.size - len(head))
            return json.loads(self._receive_exactly(_LENGTH.unpack(head)[0])), descriptors
        except OSError as error:
            raise PeerGoneError from error

    def _receive_exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                raise PeerGoneError
            found += part
        return bytes(found)


@dataclass
class Layout:
    """The offsets of arrays in one block of memory."""

    size_bytes: int = 0
    offsets: list[int] = field(default_factory=list)

    def add(self, byte_count: int) -> None:
        """Append an array of `byte_count` bytes."""
        self.offsets.append(self.size_bytes)
        self.size_bytes += -(-byte_count // _ALIGNMENT) * _ALIGNMENT


def open_memory(size_bytes: int) -> int:
    """Return the descriptor of new anonymous memory."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("thingsvision")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, max(1, size_bytes))
    return descriptor


def map_memory(descriptor: int) -> mmap.mmap:
    """Return the memory of a descriptor, which may be closed afterwards."""
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)

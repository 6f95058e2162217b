"""The UploadWeights call: a file to the server, from where an earlier upload broke off."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from .call import Caller
from .errors import IncompleteReplyError, InvalidWeightsError

CHUNK_BYTES = 1024 * 1024


def upload(caller: Caller, method: Any, path: Path) -> str:
    """Send a state dict file and return its SHA-256, 64 hexadecimal digits.

    Sends nothing where the server has it. Raises InvalidWeightsError where the file can't be read
    or the server can't use it, IncompleteReplyError where it did not confirm it.
    """
    try:
        with path.open("rb") as file:
            return _upload(caller, method, file)
    except OSError as error:
        raise InvalidWeightsError(f"Can't read {str(path)!r}: {error.strerror}") from error


def _upload(caller: Caller, method: Any, file: IO[bytes]) -> str:
    sha256 = _sha256(file)
    header = pb.UploadWeightsHeader(sha256=sha256, size_bytes=file.tell())
    offset: queue.SimpleQueue[int] = queue.SimpleQueue()
    reply = None
    try:
        with closing(caller.exchange(method, _requests(header, file, offset))) as replies:
            for number, reply in enumerate(replies):
                if number == 0:
                    offset.put(reply.received_bytes)
    finally:
        offset.put(header.size_bytes)  # lets the sending thread end where no reply came
    if reply is None or not reply.complete:
        raise IncompleteReplyError("The server did not confirm the weights: upload them again.")
    return sha256


def _requests(
    header: pb.UploadWeightsHeader, file: IO[bytes], offset: queue.SimpleQueue[int]
) -> Iterator[pb.UploadWeightsRequest]:
    yield pb.UploadWeightsRequest(header=header)
    file.seek(offset.get())
    while chunk := file.read(CHUNK_BYTES):
        yield pb.UploadWeightsRequest(chunk=chunk)


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()

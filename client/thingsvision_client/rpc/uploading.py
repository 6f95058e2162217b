"""The UploadWeights call: uploads a file, or resumes where an earlier upload stopped."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from thingsvision_proto.v1 import thingsvision_pb2 as pb

from ..errors import IncompleteReplyError, InvalidRequestError, InvalidWeightsError
from ..files import CHUNK_BYTES, sha256_of
from ..values.model import Model
from ..values.preprocessing import Preprocessing, declaration
from ..values.records import Upload, to_record
from .agreement import Difference, raise_differences
from .call import Caller


def upload(
    caller: Caller,
    method: Any,
    path: Path,
    *,
    declared: pb.Preprocessing | None = None,
    share: bool = False,
) -> Upload:
    """Upload a file, with the preprocessing declared for it, and return the server's record of it.

    Sends nothing if the server has it of this person, or it is shared with this person. Raises
    InvalidWeightsError if the file can't be read or the server can't use it, and
    IncompleteReplyError if the server did not confirm it.
    """
    header = pb.UploadWeightsHeader(name=path.name, preprocessing=declared, share=share)
    try:
        with path.open("rb") as file:
            header.sha256, header.size_bytes = sha256_of(file), file.tell()
            return _upload(caller, method, file, header)
    except OSError as error:
        raise InvalidWeightsError(f"Can't read {str(path)!r}: {error.strerror}") from error


def upload_model(
    caller: Caller,
    method: Any,
    path: Path,
    *,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    share: bool = False,
) -> Model:
    """Upload a complete model, with its preprocessing, and return its `Model`.

    Raises what `upload` does, and InvalidRequestError for a file of weights.
    """
    declared = None if preprocessing is None else declaration(preprocessing)
    sent = upload(caller, method, path, declared=declared, share=share)
    if not sent.is_model:
        raise InvalidRequestError(
            f"{str(path)!r} contains weights ({sent.format}), not a complete model: use them with "
            f"their model, as 'source/name@sha256:{sent.sha256}'."
        )
    return Model("own", sent.sha256)


def _upload(caller: Caller, method: Any, file: IO[bytes], header: pb.UploadWeightsHeader) -> Upload:
    offset: queue.SimpleQueue[int] = queue.SimpleQueue()
    reply = None
    try:
        with closing(caller.exchange(method, _requests(header, file, offset))) as replies:
            for number, reply in enumerate(replies):
                if number == 0:
                    offset.put(reply.received_bytes)
    finally:
        offset.put(header.size_bytes)  # lets the sending thread end if no reply came
    if reply is None or not reply.complete:
        raise IncompleteReplyError("The server did not confirm the file: upload it again.")
    if header.HasField("preprocessing") and not reply.upload.HasField("preprocessing"):
        raise_differences([Difference("preprocessing", str(header.preprocessing), None)], "")
    if header.share and not reply.upload.ownership.shared:
        raise_differences([Difference("share", True, False)], "")
    kept: Upload = to_record(reply.upload)
    return kept


def _requests(
    header: pb.UploadWeightsHeader, file: IO[bytes], offset: queue.SimpleQueue[int]
) -> Iterator[pb.UploadWeightsRequest]:
    yield pb.UploadWeightsRequest(header=header)
    file.seek(offset.get())
    while chunk := file.read(CHUNK_BYTES):
        yield pb.UploadWeightsRequest(chunk=chunk)

"""Uploads of several people: nobody's announcement, silence or damaged file costs the others."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from support.serving import TestServer, serving
from support.stock_calls import StockCaller
from support.weight_files import MIB, digest, weights
from thingsvision_client import Client
from thingsvision_client.errors import UnknownWeightsError
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.errors import StorageError
from thingsvision_server.sources.uploads.store import UploadStore
from thingsvision_server.sources.uploads.upload import Announcement

MODEL = "torchvision/squeezenet1_1"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def interrupt(store: UploadStore, announced: Announcement, content: bytes) -> None:
    """Begin an upload, send this much of it, and break off."""
    with suppress(KeyboardInterrupt), store.begin(announced) as upload:
        upload.write(content)
        raise KeyboardInterrupt


# ---------------------------------------------------------------- partial files and the quota


def test_announced_bytes_that_never_come_take_no_room(tmp_path: Path) -> None:
    content = weights(1, seed=1)
    store = UploadStore(tmp_path, 20 * MIB, 3 * MIB)
    with store.begin(Announcement("0" * 64, 2 * MIB)) as silent:
        silent.write(b"x")
        with store.begin(Announcement(digest(content), len(content))) as upload:
            upload.write(content)
            upload.finish()
    assert (tmp_path / digest(content)).read_bytes() == content


def test_an_upload_that_the_quota_ends_midway_keeps_its_bytes(tmp_path: Path) -> None:
    content, other = weights(2, seed=2), weights(1.5, seed=3)
    store = UploadStore(tmp_path, 20 * MIB, int(2.75 * MIB))
    announced = Announcement(digest(content), len(content))

    def send_beside_another() -> None:
        with store.begin(announced) as upload:
            upload.write(content[:MIB])
            interrupt(store, Announcement(digest(other), len(other)), other[:MIB])
            upload.write(content[MIB : 2 * MIB])

    with pytest.raises(StorageError, match=r"no room for 1,048,576 bytes"):
        send_beside_another()
    for path in tmp_path.glob(f"partial-{digest(other)}*"):
        long_ago = time.time() - 601
        os.utime(path, (long_ago, long_ago))  # silent for ten minutes: its room is needed
    with store.begin(announced) as upload:
        assert upload.resume() == MIB
        upload.write(content[MIB:])
        upload.finish()
    assert (tmp_path / digest(content)).read_bytes() == content
    assert not list(tmp_path.glob("partial-*"))


@pytest.mark.parametrize(
    "stranger",
    [{"sender": "ipv4:10.0.0.2"}, {"sender": "ipv4:10.0.0.1", "size_bytes": 7}],
    ids=["of another sender", "of another size"],
)
def test_a_partial_file_belongs_to_who_sends_it(
    tmp_path: Path, stranger: dict[str, object]
) -> None:
    content = weights(1, seed=4)
    store = UploadStore(tmp_path, 20 * MIB, 20 * MIB)
    mine = Announcement(digest(content), len(content), sender="ipv4:10.0.0.1")
    interrupt(store, mine, content[:1000])
    theirs = Announcement(**(vars(mine) | stranger))  # type: ignore[arg-type]
    with store.begin(theirs) as upload:
        assert upload.resume() == 0
        upload.write(b"garbag")
    with store.begin(mine) as upload:
        assert upload.resume() == 1000


def test_an_upload_that_sends_nothing_is_ended_and_can_be_resumed(tmp_path: Path) -> None:
    content, path = weights(2, seed=5), tmp_path / "weights.safetensors"
    path.write_bytes(content)
    forever = threading.Event()

    def stalled() -> Iterator[pb.UploadWeightsRequest]:
        sent = pb.UploadWeightsHeader(sha256=digest(content), size_bytes=len(content))
        yield pb.UploadWeightsRequest(header=sent)
        yield pb.UploadWeightsRequest(chunk=content[:MIB])
        forever.wait()

    with (
        serving(tmp_path / "weights", stall_seconds=2) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.RpcError) as caught:
            list(StockCaller(channel).start("UploadWeights", stalled()))
        forever.set()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "the client sent nothing for 2 s" in caught.value.details()
        (partial,) = (tmp_path / "weights" / "uploads").glob("partial-*")
        assert partial.stat().st_size == MIB
        with Client(server.address) as client:
            assert client.upload_weights(path) == digest(content)


# ---------------------------------------------------------------- damaged on the disk


def test_a_file_that_was_cut_is_sent_again(client: Client, folder: Path, tmp_path: Path) -> None:
    content = weights(1, seed=11)
    path = write(tmp_path / "weights.safetensors", content)
    sha256 = client.upload_weights(path)
    kept = folder / "uploads" / sha256
    kept.write_bytes(content[:-5])
    assert sha256 not in [one.sha256 for one in client.uploads()]
    assert client.upload_weights(path) == sha256
    assert kept.read_bytes() == content


def test_a_file_whose_bytes_changed_is_refused_by_name(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    content = bytearray(weights(1, seed=12))
    path = write(tmp_path / "weights.safetensors", bytes(content))
    sha256 = client.upload_weights(path)
    content[-1] ^= 1
    kept = folder / "uploads" / sha256
    kept.write_bytes(content)
    with pytest.raises(UnknownWeightsError, match=rf"{sha256} was damaged .* upload it again"):
        client.modules(f"{MODEL}@sha256:{sha256}")
    assert kept.with_name(f"{sha256}.damaged").read_bytes() == content
    assert client.upload_weights(path) == sha256


@pytest.mark.parametrize(
    "record",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"size_bytes": "many"}',
        b'{"name": 3}',
        b'{"preprocessing": {"resize_pixels": "x"}}',
        b'{"preprocessing": [1]}',
        b"",
    ],
)
def test_a_damaged_record_costs_only_itself(
    server: TestServer, client: Client, folder: Path, tmp_path: Path, record: bytes
) -> None:
    content = weights(0.1, seed=13)
    path = write(tmp_path / "weights.safetensors", content)
    sha256 = client.upload_weights(path)
    written = folder / "uploads" / f"{sha256}.json"
    assert json.loads(written.read_bytes())["sha256"] == sha256
    written.write_bytes(record)
    (listed,) = [one for one in client.uploads() if one.sha256 == sha256]
    # The name is in the record of its owner.
    assert (listed.format, listed.name) == ("safetensors", path.name)
    assert any(one.name == "alexnet" for one in client.models("torchvision"))
    assert written.with_name(f"{sha256}.json.damaged").read_bytes() == record
    client.delete_upload(sha256)

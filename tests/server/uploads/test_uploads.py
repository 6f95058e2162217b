"""Uploads: resumed after an interruption, kept once, within a quota, listed and deleted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from support.serving import TestServer, serving
from support.stock_calls import StockCaller
from support.weight_files import MIB, digest, weights
from thingsvision_client import Client
from thingsvision_client.errors import (
    ChecksumError,
    ModelInUseError,
    StorageError,
    UnknownWeightsError,
)
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.sources.uploads.store import UploadStore
from thingsvision_server.sources.uploads.upload import Announcement


def header(content: bytes, **changes: Any) -> pb.UploadWeightsRequest:
    fields = {"sha256": digest(content), "size_bytes": len(content)} | changes
    return pb.UploadWeightsRequest(header=pb.UploadWeightsHeader(**fields))


def chunks(content: bytes) -> list[pb.UploadWeightsRequest]:
    starts = range(0, len(content), MIB)
    return [pb.UploadWeightsRequest(chunk=content[start : start + MIB]) for start in starts]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


# ---------------------------------------------------------------- interrupted and resumed

UPLOAD_LABELS = ("stream_stream", "thingsvision.v1.ModelService", "UploadWeights")

KILLED = """
import os, sys, time
from pathlib import Path
import grpc
from thingsvision_proto.v1 import thingsvision_pb2 as pb, thingsvision_pb2_grpc as rpc

address, path, sha256, size, folder = sys.argv[1:]

def requests():
    head = pb.UploadWeightsHeader(sha256=sha256, size_bytes=int(size))
    yield pb.UploadWeightsRequest(header=head)
    with open(path, "rb") as file:
        for _ in range(4):
            yield pb.UploadWeightsRequest(chunk=file.read(2**20))
    name = f"partial-{sha256}*"
    while not any(one.stat().st_size >= 3 * 2**20 for one in Path(folder).glob(name)):
        time.sleep(0.02)
    os._exit(9)

list(rpc.ModelServiceStub(grpc.insecure_channel(address)).UploadWeights(requests()))
"""


def killed_upload(server: TestServer, content: bytes, path: Path, folder: Path) -> Path:
    """Begin an upload in a process that dies in the middle, and wait until the server notices.

    Returns the partial file that it leaves in the folder of uploads.
    """
    path.write_bytes(content)
    before = broken_count(server)
    arguments = [server.address, str(path), digest(content), str(len(content)), str(folder)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=60)
    assert done.returncode == 9
    wait_for(lambda: broken_count(server) == before + 1)
    return partial_file(folder, content)


def partial_file(folder: Path, content: bytes) -> Path:
    """Return the partial file of a content."""
    (path,) = folder.glob(f"partial-{digest(content)}*")
    return path


def broken_count(server: TestServer) -> float:
    """Return the number of interrupted uploads: gRPC reports a lost client, or an early end."""
    handled = server.running.metrics.grpc_handled
    codes = ("CANCELLED", "INVALID_ARGUMENT")
    return sum(handled.labels(*UPLOAD_LABELS, code)._value.get() for code in codes)


def test_the_upload_of_a_killed_client_resumes_where_it_stopped(
    server: TestServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    content = weights(8, seed=1)
    partial = killed_upload(server, content, tmp_path / "big.safetensors", folder / "uploads")
    kept = partial.stat().st_size
    assert 3 * MIB <= kept <= 4 * MIB
    received = server.running.metrics.grpc_received.labels(*UPLOAD_LABELS)
    before = received._value.get()
    assert client.upload_weights(tmp_path / "big.safetensors") == digest(content)
    # A header, and the rest of 9 chunks in all.
    assert received._value.get() - before <= 1 + 6
    assert (folder / "uploads" / digest(content)).read_bytes() == content
    assert not partial.exists()


def test_the_server_says_where_an_upload_resumes(
    server: TestServer, stock: StockCaller, folder: Path, tmp_path: Path
) -> None:
    content = weights(6, seed=2)
    partial = killed_upload(server, content, tmp_path / "big.safetensors", folder / "uploads")
    kept = partial.stat().st_size
    answered = threading.Event()

    def requests() -> Iterator[pb.UploadWeightsRequest]:
        yield header(content)
        answered.wait()
        yield from chunks(content[kept:])

    replies = iter(stock.start("UploadWeights", requests()))
    assert next(replies).received_bytes == kept > 0
    answered.set()
    last = next(replies)
    assert (last.complete, last.upload.sha256) == (True, digest(content))


def test_an_upload_that_ends_too_early_is_resumed(
    client: Client, stock: StockCaller, folder: Path, tmp_path: Path
) -> None:
    content, path = weights(3, seed=5), tmp_path / "weights.safetensors"
    path.write_bytes(content)
    requests = iter([header(content), *chunks(content)[:2]])
    with pytest.raises(grpc.RpcError) as caught:
        list(stock.start("UploadWeights", requests))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "2,097,152 of" in caught.value.details()
    assert "send the file again to resume there" in caught.value.details()
    assert partial_file(folder / "uploads", content).stat().st_size == 2 * MIB
    assert client.upload_weights(path) == digest(content)


def test_a_resumed_upload_whose_first_part_was_another_files_is_discarded(
    client: Client, stock: StockCaller, folder: Path, tmp_path: Path
) -> None:
    content, path = weights(2, seed=3), tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(grpc.RpcError):
        list(stock.start("UploadWeights", iter([header(content), *chunks(b"x" * MIB)])))
    partial = partial_file(folder / "uploads", content)
    assert partial.read_bytes() == b"x" * MIB
    with pytest.raises(
        ChecksumError,
        match=r"the received bytes must have the SHA-256 .*, got .*send the file again",
    ):
        client.upload_weights(path)
    assert not partial.exists()
    assert client.upload_weights(path) == digest(content)


def test_an_upload_whose_client_leaves_at_its_end_disturbs_no_further_attempt(
    client: Client,
    stock: StockCaller,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content, path = weights(1, seed=31), tmp_path / "weights.safetensors"
    path.write_bytes(content)
    is_finishing, write_through = threading.Event(), os.fsync

    def write_through_slowly(file: int) -> None:
        is_finishing.set()
        time.sleep(0.5)
        write_through(file)

    monkeypatch.setattr(os, "fsync", write_through_slowly)
    call = stock.start("UploadWeights", iter([header(content), *chunks(content)]))
    assert is_finishing.wait(30)
    call.cancel()
    assert client.upload_weights(path) == digest(content)
    assert (folder / "uploads" / digest(content)).read_bytes() == content


def test_uploads_of_one_file_at_a_time_do_not_disturb_each_other(
    server: TestServer, folder: Path, tmp_path: Path
) -> None:
    content, path = weights(6, seed=4), tmp_path / "weights.safetensors"
    path.write_bytes(content)
    found: list[str] = []

    def upload() -> None:
        with Client(server.address) as client:
            found.append(client.upload_weights(path))

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [digest(content)] * 4
    assert (folder / "uploads" / digest(content)).read_bytes() == content
    assert not list((folder / "uploads").glob(f"partial-{digest(content)}*"))


def test_partial_uploads_are_removed_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / f"partial-{'0' * 64}", tmp_path / f"partial-{'1' * 64}"
    for path in (old, young):
        path.write_bytes(b"x")
    day_ago = time.time() - 25 * 60 * 60
    os.utime(old, (day_ago, day_ago))
    UploadStore(tmp_path, 1000, 1000)
    assert [path.name for path in tmp_path.glob("p*")] == [young.name]


def test_an_interrupted_upload_keeps_its_bytes_and_a_wrong_one_nothing(tmp_path: Path) -> None:
    store, content = UploadStore(tmp_path, 10_000_000, 10_000_000), weights()
    announced = Announcement(digest(content), len(content))
    with suppress(KeyboardInterrupt), store.begin(announced) as begun:
        begun.write(content[:100])
        raise KeyboardInterrupt
    with store.begin(announced) as begun:
        assert begun.resume() == 100
        begun.write(content[100:])
        begun.finish()
    assert (tmp_path / digest(content)).read_bytes() == content
    other = Announcement("0" * 64, 3)
    with store.begin(other) as begun:
        begun.write(b"abc")
    assert not list(tmp_path.glob("partial-*"))


def test_weights_are_sent_once(client: Client, stock: StockCaller, tmp_path: Path) -> None:
    path = tmp_path / "squeezenet.safetensors"
    torch.manual_seed(0)
    network = models.squeezenet1_1()
    save_file(network.state_dict(), path)
    first = client.upload_weights(path)
    assert client.upload_weights(path) == first == digest(path.read_bytes())
    (reply,) = stock.call("UploadWeights", [header(path.read_bytes())])
    assert (reply.complete, reply.received_bytes) == (True, path.stat().st_size)
    model = f"torchvision/squeezenet1_1@sha256:{first}"
    client.load(model)
    with pytest.raises(ModelInUseError, match=rf"{first} is in use: unload {model} from memory"):
        client.delete_upload(first)
    client.unload(model)
    assert client.delete_upload(first) == path.stat().st_size
    with pytest.raises(UnknownWeightsError, match="no uploaded weights have the SHA-256"):
        client.load(model)


# ---------------------------------------------------------------- lists, deletes, quota


def test_uploads_are_listed_with_what_is_known_of_them(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(weights(seed=5))
    before = time.time()
    sha256 = client.upload_weights(path)
    last = client.uploads()[-1]
    assert (last.sha256, last.size_bytes) == (sha256, path.stat().st_size)
    assert (last.name, last.format, last.is_model) == ("mine.safetensors", "safetensors", False)
    assert last.preprocessing is None
    assert before - 1 <= last.uploaded_unix_seconds <= time.time() + 1
    client.delete_upload(sha256)
    assert sha256 not in [one.sha256 for one in client.uploads()]


def test_a_file_put_there_by_hand_is_listed_too(client: Client, folder: Path) -> None:
    content = weights(seed=6)
    (folder / "uploads").mkdir(exist_ok=True)
    (folder / "uploads" / digest(content)).write_bytes(content)
    (listed,) = [one for one in client.uploads() if one.sha256 == digest(content)]
    assert (listed.format, listed.name) == ("safetensors", "")


@pytest.mark.parametrize("sha256", ["0" * 64, "../../etc/passwd", ""])
def test_an_unknown_upload_can_not_be_deleted(client: Client, sha256: str) -> None:
    with pytest.raises(
        UnknownWeightsError, match=r"no uploaded file has the SHA-256 .*list the uploads"
    ):
        client.delete_upload(sha256)


def test_an_upload_over_the_quota_is_refused_with_the_ways_to_make_room(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    first.write_bytes(weights(1, seed=7))
    second.write_bytes(weights(1.5, seed=8))
    store = tmp_path / "weights"
    with serving(store, upload_quota=2 * MIB) as server, Client(server.address) as client:
        kept = client.upload_weights(first)
        used = first.stat().st_size + (store / "uploads" / f"{kept}.json").stat().st_size
        with pytest.raises(StorageError) as refusal:
            client.upload_weights(second)
        sentence = str(refusal.value)
        for part in (f"{second.stat().st_size:,} bytes", f"{used:,}", f"{2 * MIB:,}"):
            assert part in sentence
        assert "delete-upload" in sentence
        assert "--upload-quota" in sentence
        client.delete_upload(kept)
        # What a broken upload left makes room for one that comes.
        partial = store / "uploads" / f"partial-{'0' * 64}"
        partial.write_bytes(b"x" * MIB)
        ten_minutes_ago = time.time() - 601
        os.utime(partial, (ten_minutes_ago, ten_minutes_ago))
        assert client.upload_weights(second) == digest(second.read_bytes())

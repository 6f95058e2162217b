"""Images on the server: cached images are sent once, images below its root never."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import Client, errors
from thingsvision_client.images.queue import queue_images
from thingsvision_client.origins import record_fingerprints
from thingsvision_client.rpc.channel import call_metadata
from thingsvision_client.values.reductions import Reduction
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceStub
from thingsvision_server.access.person import Person, person_of_peer
from thingsvision_server.engine.images.store import ImageStore

MODEL = "torchvision/squeezenet1_0@random:0"
MODULE = "features.5"
SOMEBODY = person_of_peer("somebody")


@pytest.fixture
def stimuli(tmp_path: Path, photos: list[Path]) -> Path:
    folder = tmp_path / "stimuli"
    for number, photo in enumerate(photos):
        place = folder / ("b", "a")[number % 2] / f"{number} ünï{photo.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    return folder


@pytest.fixture
def keeping(start_server: Callable[..., Any], stimuli: Path) -> Iterator[TestServer]:
    with start_server(image_store=10_000_000, image_root=stimuli) as server:
        yield server


def sent_bytes(client: Client, images: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """Extract, and return the features and how many bytes of files went out."""
    counts: list[int] = []
    make = pb.ExtractRequest

    def counted(**part: Any) -> pb.ExtractRequest:
        if "image" in part:
            counts.append(len(part["image"].encoded))
        return make(**part)

    with monkeypatch.context() as patched:
        patched.setattr("thingsvision_client.rpc.extraction.pb.ExtractRequest", counted)
        found = client.extract(MODEL, images, MODULE, batch_size=1)
    return found, sum(counts)


def test_the_second_request_sends_no_image(
    keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(keeping.address) as client:
        first, first_bytes = sent_bytes(client, stimuli, monkeypatch)
        second, second_bytes = sent_bytes(client, stimuli, monkeypatch)
    assert first_bytes == sum(path.stat().st_size for path in stimuli.rglob("*.*"))
    assert second_bytes == 0
    assert first.images == second.images
    np.testing.assert_array_equal(first.features[MODULE], second.features[MODULE])


def test_only_what_changed_is_sent_again(
    keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(keeping.address) as client:
        before, _ = sent_bytes(client, stimuli, monkeypatch)
        changed, other = stimuli / before.images[0], stimuli / before.images[1]
        shutil.copy(other, changed)  # the content of another image: known by its digest
        after, again = sent_bytes(client, stimuli, monkeypatch)
        assert again == 0
        with changed.open("ab") as file:
            file.write(b"\0")
        _, again = sent_bytes(client, stimuli, monkeypatch)
    assert again == changed.stat().st_size
    rows = after.features[MODULE]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], before.features[MODULE][0])


def test_an_rdm_of_kept_images_is_the_same(keeping: TestServer, stimuli: Path) -> None:
    with Client(keeping.address) as client:
        first, second = (client.rdm(MODEL, stimuli, MODULE, batch_size=1) for _ in range(2))
    np.testing.assert_array_equal(first.rdms[MODULE], second.rdms[MODULE])


def test_the_query_for_cached_images_is_routed_like_the_images(
    keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    name_model = call_metadata

    def watched(model_id: str) -> Any:
        asked.append(model_id)
        return name_model(model_id)

    monkeypatch.setattr("thingsvision_client.rpc.call.call_metadata", watched)
    with Client(keeping.address) as client:
        for call in CALLS.values():
            call(client, stimuli)
    assert asked == [MODEL] * 6, "three calls, and the question of each"


@pytest.fixture
def losing(keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch) -> TestServer:
    """The same, which keeps the stimuli, but whose files vanish once it has said so."""
    with Client(keeping.address) as client:
        client.extract(MODEL, stimuli, MODULE, batch_size=1)
    missing = ImageStore.find_missing

    def answered(store: ImageStore, digests: Any, person: Person) -> list[int]:
        found = missing(store, digests, person)
        for path in store._folder._root.glob("??/*"):
            path.unlink()
        return found

    monkeypatch.setattr(ImageStore, "find_missing", answered)
    return keeping


CALLS: dict[str, Callable[[Client, Any], Any]] = {
    "extract": lambda client, images: client.extract(MODEL, images, MODULE).images,
    "rdm": lambda client, images: client.rdm(MODEL, images, MODULE).images,
    "fit_pca": lambda client, images: (
        client.fit_pca(
            MODEL, images, "classifier.1", components=1, reduction=Reduction("mean", (1, 2))
        ).image_count
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_lost_images_are_sent_after_all(losing: TestServer, stimuli: Path, call: str) -> None:
    with Client(losing.address) as client:
        queue, seen = record_fingerprints(queue_images(stimuli))
        answer = CALLS[call](client, queue)
        contents = [(stimuli / image.name).read_bytes() for image in seen]
        assert [image.sha256 for image in seen] == [digest.hex() for digest in digests_of(contents)]
        assert answer in ([image.name for image in seen], len(seen))
        assert len(seen) == len(list(stimuli.rglob("*.*")))


def test_the_bytes_of_an_image_are_hashed_once(
    keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bytes] = []
    sha256 = hashlib.sha256

    def counted(data: bytes = b"") -> Any:
        if sys._getframe(1).f_globals["__name__"].startswith("thingsvision_client."):
            hashed.append(data)  # the server of this process hashes as well
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", counted)
    contents = sorted(path.read_bytes() for path in stimuli.rglob("*.*"))
    with Client(keeping.address) as client:
        for _ in range(2):  # sent as files, then as digests
            hashed.clear()
            queue, fingerprints = record_fingerprints(queue_images(stimuli))
            client.extract(MODEL, queue, MODULE, batch_size=1)
            assert len(fingerprints) == len(contents)
            assert sorted(hashed) == contents


def test_two_calls_at_once_may_send_the_same_queue(keeping: TestServer, stimuli: Path) -> None:
    queue = queue_images(stimuli)
    with Client(keeping.address) as client, Client(keeping.address, timeout=60) as other:
        streams = [one.stream(MODEL, queue, MODULE, batch_size=1) for one in (client, other)]
        pairs = [list(batches) for batches in zip(*streams, strict=True)]
    names = [image.name for image in queue.images]
    for number in range(2):
        assert [name for pair in pairs for name in pair[number][0]] == names
    told = {"images", "count", "tensor_shape", "cores", "here_count", "aim", "computed_by"}
    assert set(vars(queue)) == told


def test_images_that_can_not_be_read_again_are_sent_by_the_next_call(
    losing: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(losing.address) as client:
        queue = queue_images(stimuli)
        with pytest.raises(errors.UnknownImageError, match=r"dropped it since: repeat the call"):
            client.extract(MODEL, replace(queue, images=iter(queue.images)), MODULE)
        _, count = sent_bytes(client, stimuli, monkeypatch)
        assert count == sum(path.stat().st_size for path in stimuli.rglob("*.*"))


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_stream_sends_lost_images_again(
    keeping: TestServer, stimuli: Path, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted(stimuli.rglob("*.*")) * 3
    read, count = ImageStore.read, itertools.count()

    def lose(store: ImageStore, digest: bytes, person: Person | None = None) -> bytes | None:
        return read(store, digest, person) if next(count) < len(images) // 2 + 1 else None

    with Client(keeping.address) as client:
        whole = client.extract(MODEL, images, MODULE, batch_size=batch_size)
        monkeypatch.setattr(ImageStore, "read", lose)
        stream = client.stream(MODEL, images, MODULE, batch_size=batch_size)
        parts = [(names, features[MODULE], stream.places) for names, features in stream]
        assert next(count) > len(images) // 2, "images were lost"
        assert [name for names, *_ in parts for name in names] == whole.images
        assert [place for *_, places in parts for place in places] == list(range(len(images)))
        rows = np.concatenate([rows for _, rows, _ in parts])
        assert stream.place_count == len(images)
    if batch_size:
        np.testing.assert_array_equal(rows, whole.features[MODULE])
    else:
        assert_close(rows, whole.features[MODULE])


def test_a_server_that_keeps_none_gets_all(
    start_server: Callable[..., Any], stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_server(image_store=0) as server, Client(server.address) as client:
        for _ in range(2):
            _, count = sent_bytes(client, stimuli, monkeypatch)
            assert count == sum(path.stat().st_size for path in stimuli.rglob("*.*"))


def test_images_of_the_image_root_are_named_only(
    keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(keeping.address) as client:
        listed = client.server_images()
        found, count = sent_bytes(client, listed, monkeypatch)
        assert count == 0
        assert found.images == [image.name for image in listed]
        assert found.images == client.extract(MODEL, stimuli, MODULE).images
        assert [image.name for image in client.server_images("a")] == [
            name for name in found.images if name.startswith("a/")
        ]
        alone = client.extract(MODEL, [stimuli / found.images[-1]], MODULE, batch_size=1)
    np.testing.assert_array_equal(found.features[MODULE][-1], alone.features[MODULE][0])


def test_nothing_outside_the_image_root_can_be_named(keeping: TestServer, stimuli: Path) -> None:
    outside = stimuli.parent / "outside.png"
    shutil.copy(next(stimuli.rglob("*.png")), outside)
    (stimuli / "link.png").symlink_to(outside)
    with grpc.insecure_channel(keeping.address) as channel, Client(keeping.address) as client:
        for path in ("../outside.png", str(outside), "link.png", "no.png"):
            with pytest.raises(
                grpc.RpcError, match="must be an image file below this server's image root"
            ):
                extract_by_hand(channel, pb.Image(name="x", server_path=path))
        with pytest.raises(errors.InvalidRequestError, match=r"no folder '\.\.'"):
            client.server_images("..")


def test_hidden_files_and_links_that_lead_out_are_not_listed(
    keeping: TestServer, stimuli: Path
) -> None:
    photo = next(stimuli.rglob("*.png"))
    shutil.copy(photo, stimuli.parent / "outside.png")
    (stimuli / "link.png").symlink_to(stimuli.parent / "outside.png")
    (stimuli / "same.png").symlink_to(photo)
    (stimuli / "._photo.png").write_bytes(b"of another system")
    for folder in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        (stimuli / folder).mkdir()
        shutil.copy(photo, stimuli / folder / "copy.png")
    with Client(keeping.address) as client:
        listed = {image.name for image in client.server_images()}
        assert "same.png" in listed
        assert listed.isdisjoint({"link.png", "._photo.png"})
        assert not [name for name in listed if name.endswith("copy.png")]
        assert client.extract(MODEL, client.server_images(), MODULE).images


def test_without_an_image_root_the_error_names_the_option(client: Client) -> None:
    with pytest.raises(errors.InvalidRequestError, match="--image-root"):
        client.server_images()


@pytest.mark.parametrize(
    "digest", [hashlib.sha256(b"never sent").digest(), b"", b"\xab", bytes(33)]
)
def test_an_image_that_is_not_kept_is_named(keeping: TestServer, digest: bytes) -> None:
    with (
        grpc.insecure_channel(keeping.address) as channel,
        pytest.raises(
            grpc.RpcError, match=r"image 0 \('cat'\).*no longer cached on this server"
        ) as error,
    ):
        extract_by_hand(channel, pb.Image(name="cat", kept_sha256=digest))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def extract_by_hand(channel: grpc.Channel, image: pb.Image) -> None:
    spec = pb.ModelSpec(source="torchvision", name="squeezenet1_0", random_seed=0)
    header = pb.ExtractHeader(model=spec, modules=[MODULE])
    requests = [pb.ExtractRequest(header=header), pb.ExtractRequest(image=image)]
    list(FeatureServiceStub(channel).Extract(iter(requests)))


def test_the_store_evicts_the_least_recently_used_image(tmp_path: Path) -> None:
    contents = [bytes([number]) * 40 for number in range(4)]
    digests = digests_of(contents)
    store = ImageStore(tmp_path, 100)
    store.keep(contents[0], SOMEBODY)
    store.keep(contents[1], SOMEBODY)
    assert store.find_missing(digests[:1], SOMEBODY) == []  # asked for: kept longest from now on
    store.keep(contents[2], SOMEBODY)
    assert store.find_missing(digests, SOMEBODY) == [1, 3]
    assert store.used_bytes == 80
    again = ImageStore(tmp_path, 100)
    assert again.find_missing(digests, SOMEBODY) == [1, 3]
    assert again.read(digests[0]) == contents[0]
    assert len(list(tmp_path.glob("??/*"))) == 2
    store.keep(bytes(101), SOMEBODY)
    assert store.used_bytes == 80


def test_many_images_of_one_sender_do_not_push_out_the_few_of_another(tmp_path: Path) -> None:
    few, many = ([bytes([number, who]) * 10 for number in range(9)] for who in range(2))
    store = ImageStore(tmp_path, 80)
    store.keep(few[0], person_of_peer("has few"))
    for content in many:
        store.keep(content, person_of_peer("has many"))
    assert store.find_missing(digests_of(few[:1]), SOMEBODY) == []
    assert store.find_missing(digests_of(many), SOMEBODY) == [0, 1, 2, 3, 4, 5]
    for content in few[1:]:
        store.keep(content, person_of_peer("has few"))
    assert (
        store.find_missing(digests_of(few), SOMEBODY)
        == store.find_missing(digests_of(many), SOMEBODY)
        == list(range(7))
    )
    assert store.used_bytes == 80 == sum(path.stat().st_size for path in tmp_path.glob("??/*"))


def test_images_are_kept_for_the_machine_that_sent_them(
    keeping: TestServer, stimuli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    senders = set()
    keep = ImageStore.keep

    def watched(store: ImageStore, content: bytes, person: Person) -> None:
        senders.add(person.name)
        keep(store, content, person)

    monkeypatch.setattr(ImageStore, "keep", watched)
    for photo in list(stimuli.rglob("*.png"))[:2]:
        with Client(keeping.address) as client:  # of another port each time
            client.extract(MODEL, [photo], MODULE)
    assert senders == {"ipv4:127.0.0.1"}


def digests_of(contents: list[bytes]) -> list[bytes]:
    return [hashlib.sha256(content).digest() for content in contents]


def test_a_file_that_was_altered_on_disk_is_not_used(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, 100)
    store.keep(b"a photograph", SOMEBODY)
    (path,) = tmp_path.glob("??/*")
    path.write_bytes(b"another one")
    digest = hashlib.sha256(b"a photograph").digest()
    assert store.read(digest) is None
    assert store.find_missing([digest], SOMEBODY) == [0]


def test_a_file_that_was_removed_is_missing_before_it_is_asked_for(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, 100)
    store.keep(b"a photograph", SOMEBODY)
    store.keep(b"another one", SOMEBODY)
    digests = digests_of([b"a photograph", b"another one"])
    (tmp_path / digests[0].hex()[:2] / digests[0].hex()[2:]).unlink()
    assert store.find_missing(digests, SOMEBODY) == [0]
    assert store.used_bytes == len(b"another one")
    store.keep(b"a photograph", SOMEBODY)
    assert store.read(digests[0]) == b"a photograph"

"""What one person may store of each kind, over a socket: uploads, PCAs, cached images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from support.lab import Lab, bearer
from support.serving import TestServer
from support.tiny_pcas import MODULE, fit
from support.weight_files import MIB, digest, weights
from thingsvision_client import Client
from thingsvision_client.errors import StorageError
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server.access.person import Person, act_as
from thingsvision_server.access.scopes import Scope
from thingsvision_server.errors import StorageError as StorageLimitError
from thingsvision_server.memory_shares import person_pca_bytes, person_upload_bytes
from thingsvision_server.settings import Settings
from thingsvision_server.sources.uploads import person_room
from thingsvision_server.sources.uploads.store import UploadStore
from thingsvision_server.sources.uploads.upload import Announcement

WORK = (Scope.READ, Scope.EXTRACT, Scope.UPLOAD)
IMAGE_BYTES = 2 * MIB
PCA_BYTES = 500_000
NETWORK, PLACE = "torchvision/squeezenet1_1@random:0", "features.2"


class People:
    """Clients of people by name, and what their plain calls carry."""

    def __init__(self, lab: Lab, server: TestServer, opened: ExitStack) -> None:
        self._lab, self._server, self._opened = lab, server, opened
        self.tokens: dict[str, str] = {}

    def __call__(self, name: str) -> Client:
        self.tokens[name] = self._lab.add_token(name, *WORK)
        self._server.running.access.look()
        address = f"grpcs://{self._server.address}"
        return self._opened.enter_context(Client(address, token=self.tokens[name], ca=self._lab.ca))

    def announce(self, name: str, content: bytes, sent: int = 0) -> grpc.RpcError:
        """Announce a file in plain messages, send a part of it, and return how the call ended."""
        header = pb.UploadWeightsHeader(sha256=digest(content), size_bytes=len(content))
        messages = [pb.UploadWeightsRequest(header=header)]
        messages += [pb.UploadWeightsRequest(chunk=content[:sent])] if sent else []
        with self._lab.channel(self._server.address) as channel:
            call = channel.stream_stream(
                "/thingsvision.v1.ModelService/UploadWeights",
                request_serializer=pb.UploadWeightsRequest.SerializeToString,
                response_deserializer=pb.UploadWeightsResponse.FromString,
            )(iter(messages), metadata=bearer(self.tokens[name]), timeout=30)
            with pytest.raises(grpc.RpcError) as ended:
                list(call)
        return ended.value


@pytest.fixture
def people(lab: Lab, lab_server: TestServer) -> Iterator[People]:
    """People who may have 2 MiB of uploads each; the limits change as by SIGHUP."""
    limits: dict[str, Any] = {
        "person_upload_quota": 2 * MIB,
        "person_pca_quota": PCA_BYTES,
        "person_image_store": IMAGE_BYTES,
    }
    lab_server.running.change(Settings(allow_download=False, **limits))
    try:
        with ExitStack() as opened:
            yield People(lab, lab_server, opened)
    finally:
        lab_server.running.change(Settings(allow_download=False))


def test_by_default_a_person_may_have_a_quarter() -> None:
    settings = Settings(upload_quota=4000, pca_quota=800)
    assert (person_upload_bytes(settings), person_pca_bytes(settings)) == (1000, 200)
    assert person_pca_bytes(Settings(person_pca_quota=0)) == 0


def file_of(folder: Path, size_mib: float, seed: int) -> Path:
    path = folder / f"{seed}.safetensors"
    path.write_bytes(weights(size_mib, seed=seed))
    return path


def test_an_upload_beyond_a_persons_quota_is_refused_before_its_bytes(
    people: People, tmp_path: Path
) -> None:
    first, second = file_of(tmp_path, 1.2, 31), file_of(tmp_path, 1, 32)
    ulla, udo = people("ulla"), people("udo")
    kept = ulla.upload_weights(first)
    with pytest.raises(StorageError, match="delete-upload") as refused:
        ulla.upload_weights(second)
    for part in ("ulla", "--person-upload-quota", f"{first.stat().st_size:,}", f"{2 * MIB:,}"):
        assert part in str(refused.value)
    error = people.announce("ulla", second.read_bytes())
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    quota = QuotaFailure()
    assert any(one.Unpack(quota) for one in status.details)
    assert quota.violations[0].subject == "ulla"
    assert "--person-upload-quota" in quota.violations[0].description
    assert not any(one.Is(RetryInfo.DESCRIPTOR) for one in status.details)
    assert udo.upload_weights(second) == digest(second.read_bytes()), "each person has a quota"
    ulla.delete_upload(kept)
    assert ulla.upload_weights(second) == digest(second.read_bytes())


def test_bytes_of_several_owners_count_for_each(people: People, tmp_path: Path) -> None:
    one, other = file_of(tmp_path, 1.2, 33), file_of(tmp_path, 1, 34)
    for name in ("vera", "vito"):
        client = people(name)
        client.upload_weights(one)
        with pytest.raises(StorageError, match=name):
            client.upload_weights(other)


def test_what_is_shared_counts_for_who_becomes_an_owner(people: People, tmp_path: Path) -> None:
    own, shared = file_of(tmp_path, 1.2, 35), file_of(tmp_path, 1, 36)
    people("wim").upload_weights(shared, share=True)
    wanda = people("wanda")
    kept = wanda.upload_weights(own)
    with pytest.raises(StorageError, match="wanda"):
        wanda.upload_weights(shared)
    wanda.delete_upload(kept)
    assert wanda.upload_weights(shared) == digest(shared.read_bytes())
    assert wanda.upload_weights(shared) == digest(shared.read_bytes())


def test_interrupted_uploads_of_a_person_give_way(people: People, tmp_path: Path) -> None:
    client = people("xena")
    parts = [weights(1.2, seed=40 + number) for number in range(3)]
    for content in parts:
        people.announce("xena", content, MIB)
    whole = file_of(tmp_path, 1.5, 44)
    assert client.upload_weights(whole) == digest(whole.read_bytes())


def test_an_interrupted_upload_resumes_within_the_quota(people: People, tmp_path: Path) -> None:
    path = file_of(tmp_path, 1.5, 45)
    client = people("yara")
    people.announce("yara", path.read_bytes(), MIB)
    assert client.upload_weights(path) == digest(path.read_bytes())


def test_a_pca_beyond_a_persons_quota_is_refused(people: People, photos: list[Path]) -> None:
    images = [(str(place), photo.read_bytes()) for place, photo in enumerate(photos[:3])]
    zoe, zeno = people("zoe"), people("zeno")
    kept = fit(zoe, images, MODULE, components=1, name="one")
    assert PCA_BYTES / 2 < kept.size_bytes < PCA_BYTES
    with pytest.raises(StorageError, match=r"PCAs of zoe .*--person-pca-quota.*delete") as error:
        fit(zoe, images, MODULE, components=1, name="another")
    assert error.value.subject == "zoe"
    assert fit(zoe, images, MODULE, components=1, name="one").sha256 == kept.sha256
    assert fit(zeno, images, MODULE, components=1, name="another").sha256
    zoe.delete_pca(kept.sha256)
    assert fit(zoe, images, MODULE, components=1, name="another").sha256


def owned_sizes(client: Client) -> list[int]:
    """Return the sizes of a person's uploads; others share some with everybody."""
    return sorted(one.size_bytes for one in client.uploads() if not one.ownership.shared)


def test_what_exceeds_the_new_owners_quota_is_given_only_if_told(
    people: People, lab: Lab, lab_server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    files = [file_of(tmp_path, 1.2, seed) for seed in (71, 72)]
    images = [(str(place), photo.read_bytes()) for place, photo in enumerate(photos[:3])]
    lea, leo, both = people("lea"), people("leo"), file_of(tmp_path, 0.5, 73)
    for client, file in zip((lea, leo), files, strict=True):
        client.upload_weights(file)
        client.upload_weights(both)
    fit(lea, images, MODULE, components=1, name="hers")
    token = lab.add_token("over-root", Scope.ADMIN)
    lab_server.running.access.look()
    with Client(f"grpcs://{lab_server.address}", token=token, ca=lab.ca) as root:
        with pytest.raises(StorageError, match="nothing was given away") as refused:
            root.move_owner("lea", "leo")
        hers = files[0].stat().st_size
        his = sum(one.stat().st_size for one in (files[1], both))
        said = f"uploads of lea have {hers:,} bytes that leo does not own, and leo uses {his:,}"
        assert said in str(refused.value)
        assert refused.value.subject == "leo"
        assert owned_sizes(lea) == sorted([hers, both.stat().st_size])
        assert len(lea.pcas()) == 1
        moved = root.move_owner("lea", "leo", over_quota=True)
        assert (moved["upload"], moved["PCA"]) == (2, 1)
        assert owned_sizes(leo) == sorted([hers, his - both.stat().st_size, both.stat().st_size])
        with pytest.raises(StorageError, match="leo use"):
            leo.upload_weights(file_of(tmp_path, 0.1, 74))
        fit(lea, images[::-1], MODULE, components=1, name="hers again")
        with pytest.raises(StorageError, match=r"PCAs of lea .*--person-pca-quota"):
            root.move_owner("lea", "leo")
        assert root.move_owner("leo", "admin")["upload"] == 3, "the operator has no limit"


def test_cached_images_of_a_person_push_out_the_persons_own(
    people: People, photos: list[Path]
) -> None:
    quin, rosa = people("quin"), people("rosa")
    content = photos[2].read_bytes()
    assert len(content) < IMAGE_BYTES / 4
    rosa.extract(NETWORK, [("first", content + b"rosa")], PLACE)
    padded = content + bytes(IMAGE_BYTES // 4 - len(content) - 1)
    files = [padded + bytes([number + 1]) for number in range(6)]
    for file in files:
        quin.extract(NETWORK, [("image", file)], PLACE)
    assert {one.sha256 for one in quin.cached_images()} == set(map(digest, files[2:]))
    assert len(rosa.cached_images()) == 1


def test_files_of_a_person_that_arrive_at_once_do_not_exceed_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_room, "_CHECK_SECONDS", 0.0)
    store = UploadStore(tmp_path / "uploads", 9 * MIB, 90 * MIB, person_bytes=2 * MIB)
    contents = [weights(1.5, seed=seed) for seed in (60, 61)]
    announced = [Announcement(digest(one), len(one), sender="ada") for one in contents]
    with act_as(Person("ada", frozenset(WORK))):
        with store.begin(announced[0]) as one:
            with ExitStack() as sending:
                other = sending.enter_context(store.begin(announced[1]))
                other.write(contents[1][: MIB // 4])
                one.write(contents[0][:MIB])
                with pytest.raises(StorageLimitError, match="ada use"):
                    other.write(contents[1][MIB // 4 : MIB])
            one.write(contents[0][MIB:])
            one.finish()
        with pytest.raises(StorageLimitError), store.begin(announced[1]):
            pass
        store.delete(announced[0].sha256)
        with store.begin(announced[1]) as again:
            again.write(contents[1][again.resume() :])
            again.finish()
        assert [one.sha256 for one in store.records()] == [announced[1].sha256]

"""Servers on one folder are one cache of images, whatever they do at once and whoever is killed."""

from __future__ import annotations

import errno
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.scarce_system import refuse_locks
from support.server_process import ServerProcess, server_process
from support.serving import serving
from support.stock_calls import spec, stock_calls
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client
from thingsvision_client.rpc.image_cache import LoadedImage
from thingsvision_proto.v1 import thingsvision_pb2 as pb

MODEL, MODULE = "torchvision/squeezenet1_0@random:0", "features.5"
HEADER = pb.PreprocessHeader(
    model=spec(), overrides=pb.PreprocessingOverrides(resize_pixels=[16], crop_pixels=[16])
)
QUOTA = 2_000_000
KEEPS = 1000
IMAGES_OF_CALL = 20


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> list[bytes]:
    """Four hundred small image files: more than the quota has room for."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_photos(folder, photos, 400)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_what_one_server_was_sent_the_other_has(tmp_path: Path, photos: list[Path]) -> None:
    with (
        serving(tmp_path, image_store=50_000_000) as one,
        serving(tmp_path, image_store=50_000_000) as other,
        Client(one.address) as first,
        Client(other.address) as second,
    ):
        first.extract(MODEL, photos, MODULE)
        sent: list[str] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(LoadedImage, "to_message", lambda image, **_: sent.append(image.name))
            second.extract(MODEL, photos, MODULE)
            assert len(list(second.stream(MODEL, photos, MODULE))) > 0
        assert sent == []
        assert set(second.cached_images()) == set(first.cached_images())
        assert second.delete_cached_images().image_count == len(photos)
        assert first.cached_images() == []
        first.extract(MODEL, photos[:1], MODULE)
        assert len(second.cached_images()) == 1


class Load:
    """Keeps, finds, uses and deletes images at three servers at once."""

    def __init__(self, contents: list[bytes]) -> None:
        self.contents = contents
        self.addresses: list[str] = []
        self.kept = self.deleted = self.used = self.cut = 0
        self._lock = threading.Lock()

    def keep(self, seed: int) -> None:
        """Send some images to some server, to be cached."""
        chance = random.Random(seed)
        some = chance.sample(self.contents, IMAGES_OF_CALL)
        images = [pb.Image(index=place, encoded=one, keep=True) for place, one in enumerate(some)]
        if self._call(chance, "Preprocess", parts(images)) is not None:
            self._count("kept", len(some))

    def use(self, seed: int) -> None:
        """Use the images that a server says it has: it may lose some in between, but none wrong."""
        chance = random.Random(seed)
        some = chance.sample(self.contents, IMAGES_OF_CALL)
        digests = [hashlib.sha256(one).digest() for one in some]
        replies = self._call(chance, "FindImages", pb.FindImagesRequest(sha256=digests))
        there = sorted(set(range(len(some))) - set(replies[0].missing)) if replies else []
        images = [pb.Image(index=at, kept_sha256=digests[place]) for at, place in enumerate(there)]
        if images and self._call(chance, "Preprocess", parts(images)) is not None:
            self._count("used", len(images))

    def delete(self, seed: int) -> None:
        """Delete some images."""
        chance = random.Random(seed)
        some = [hashlib.sha256(one).digest() for one in chance.sample(self.contents, 10)]
        request = pb.DeleteCachedImagesRequest(sha256=some)
        if replies := self._call(chance, "DeleteCachedImages", request):
            self._count("deleted", replies[0].image_count)

    def _call(self, chance: random.Random, method: str, request: Any) -> list[Any] | None:
        """Return the replies; None if the server has been killed, or an image is gone."""
        with stock_calls(chance.choice(self.addresses)) as stock:
            try:
                return stock.call(method, request)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
                    raise
                self._count("cut", 1)
                return None

    def _count(self, what: str, count: int) -> None:
        with self._lock:
            setattr(self, what, getattr(self, what) + count)


def parts(images: list[pb.Image]) -> list[pb.PreprocessRequest]:
    return [
        pb.PreprocessRequest(header=HEADER),
        *(pb.PreprocessRequest(image=image) for image in images),
    ]


def start(stack: ExitStack, folder: Path, name: str, lock_error: int = 0) -> ServerProcess:
    """Start a server on the folder that all share, with a log of its own."""
    own = folder / name
    own.mkdir(exist_ok=True)
    options = {"weights_dir": folder / "weights", "image_store": QUOTA, "exit_code": None}
    options |= {"before": partial(refuse_locks, lock_error)} if lock_error else {}
    return stack.enter_context(server_process(own, **options))  # type: ignore[arg-type]


def disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.glob("weights/images/??/*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def listed(server: ServerProcess) -> set[str]:
    with Client(server.address) as client:
        return {image.sha256 for image in client.cached_images()}


def until_all_know_the_same(servers: list[ServerProcess]) -> Iterator[set[str]]:
    """Yield what the servers list, as soon as it is the same."""
    over = time.monotonic() + 30
    while len({frozenset(listed(one)) for one in servers}) > 1:
        assert time.monotonic() < over, [len(listed(one)) for one in servers]
        time.sleep(0.2)
    yield listed(servers[0])


@pytest.mark.parametrize("locks", ["some", "none: ENOLCK", "none: EOPNOTSUPP"])
def test_three_servers_keep_evict_and_delete_at_once_and_one_is_killed(
    tmp_path: Path, contents: list[bytes], locks: str, request: pytest.FixtureRequest
) -> None:
    """Also where the disk of all servers, or of some, refuses locks."""
    errors = {"a": 0, "b": errno.ENOLCK, "c": errno.EOPNOTSUPP, "d": errno.ENOLCK}
    if locks != "some":
        if not request.config.getoption("--all"):
            pytest.skip("two of the three servers have no locks in the other test: --all")
        errors = dict.fromkeys(errors, getattr(errno, locks.removeprefix("none: ")))
    load, largest = Load(contents), max(map(len, contents))
    with ExitStack() as stack:
        servers = [start(stack, tmp_path, name, errors[name]) for name in "abc"]
        load.addresses = [one.address for one in servers]
        most = 0
        with ThreadPoolExecutor(6) as pool:
            tasks = [load.keep] * (KEEPS // IMAGES_OF_CALL) + [load.use, load.delete] * 20
            random.Random(0).shuffle(tasks)
            work = [pool.submit(task, seed) for seed, task in enumerate(tasks)]
            killed = servers.pop()
            while not all(one.done() for one in work):
                most = max(most, disk_bytes(tmp_path))
                if load.kept > KEEPS // 4 and killed.process.is_running():
                    killed.process.kill()
                    load.addresses = [one.address for one in servers]
                time.sleep(0.02)
        for one in work:
            one.result()
        assert load.kept > KEEPS // 2
        assert load.used
        assert load.deleted
        assert most <= QUOTA + 3 * largest, "one file more for each server"
        servers.append(start(stack, tmp_path, "d", errors["d"]))
        for known in until_all_know_the_same(servers):
            files = {
                path.parent.name + path.name for path in tmp_path.glob("weights/images/??/[!.]*")
            }
            assert known == files
            assert not list(tmp_path.glob("weights/images/??/.unfinished*"))
            for name in files:
                path = tmp_path / "weights" / "images" / name[:2] / name[2:]
                assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        assert [one.internal_error_count for one in servers] == [0, 0, 0]

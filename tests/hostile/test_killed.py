"""Servers and children killed in the middle of their work: nothing is left, and all goes on."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import save

from support.bystander import MODEL, MODULE, bystander
from support.scarce_system import use_temporary_folder
from support.server_process import ServerProcess, server_process
from support.stock_calls import stock_calls
from thingsvision_client import Client
from thingsvision_client.errors import BackendCrashedError, UnavailableError
from thingsvision_proto.v1 import thingsvision_pb2 as pb

FILE = save({"classifier.1.bias": np.arange(300_000, dtype=np.float32)})
HALF = len(FILE) // 2
KERAS = "keras/MobileNetV2@random:0"
END_SECONDS = 20
SHARED_MEMORY = Path("/dev/shm")
NAMED = {"server.log", "server.out", ".ses"}
"""Files of the server, and the id that Triton keeps in the folder of temporary files."""

MOMENTS = 12
"""How often a server is killed at another moment, with --all."""


@contextmanager
def running(folder: Path, **options: Any) -> Iterator[ServerProcess]:
    """Run a server whose temporary files are in a folder of their own."""
    (folder / "tmp").mkdir(exist_ok=True)
    before = partial(use_temporary_folder, folder / "tmp")
    with server_process(folder, before=before, rdm_features_memory=0, **options) as server:
        yield server


class Caller(threading.Thread):
    """A call in the background, and how it ended."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


def upload(address: str, over: threading.Event, *, cut: int = len(FILE)) -> list[Any]:
    """Send a file up to a byte, then nothing until it is over; return the replies."""
    digest = hashlib.sha256(FILE).hexdigest()
    replies = []

    def requests() -> Iterator[Any]:
        header = pb.UploadWeightsHeader(sha256=digest, size_bytes=len(FILE))
        yield pb.UploadWeightsRequest(header=header)
        while not replies:
            time.sleep(0.01)
        yield pb.UploadWeightsRequest(chunk=FILE[replies[0].received_bytes : cut])
        over.wait(60)

    with stock_calls(address) as stock:
        replies.extend(stock.start("UploadWeights", requests()))
    return replies


def works(address: str, photos: list[Path], over: threading.Event) -> dict[str, Callable[[], Any]]:
    """Return calls that all take long."""

    def do(work: Callable[[Client], Any]) -> Callable[[], Any]:
        def call() -> None:
            with Client(address) as client:
                work(client)

        return call

    many = [(str(number), photos[-1].read_bytes()) for number in range(500)]
    return {
        "extraction": do(lambda c: list(c.stream(MODEL, many, MODULE, batch_size=2))),
        "fit": do(lambda c: c.fit_pca(MODEL, many, "features.12", components=2)),
        "rdm": do(lambda c: c.rdm(MODEL, many, "features.12")),
        "load": do(lambda c: c.load("torchvision/alexnet@random:0")),
        "upload": lambda: upload(address, over, cut=HALF),
    }


def left_files(folder: Path) -> list[str]:
    """Return the files of a killed server that nobody names."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [
        str(path.relative_to(folder))
        for path in found
        if path.name not in NAMED
        and not path.name.startswith("partial-")
        and path.parent.parent.name != "images"
        and path.parent.name not in {"pca", "servers", ".news"}
    ]


def assert_all_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, END_SECONDS)
    assert alive == []


def kill(server: ServerProcess) -> None:
    children = server.process.children(recursive=True)
    server.process.kill()
    assert_all_end([server.process, *children])


def kill_children(server: ServerProcess) -> None:
    children = server.process.children(recursive=True)
    for child in children:
        child.kill()
    assert children


def leave_unfinished(weights: Path) -> list[Path]:
    """Make what a server leaves that is killed while it writes a file of each kind."""
    places = ["uploads", "images/ab", "torch/hub/checkpoints", "keras/models"]
    left = [weights / place / ".unfinished-1" for place in places]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half of it")
    left.append(weights / "pca" / ".unfinished-2")
    left[-1].mkdir(parents=True)
    (left[-1] / "pca").write_bytes(b"half of it")
    return left


def check_restart(folder: Path, photos: list[Path], over: threading.Event) -> None:
    """Assert that everything works on a folder that a killed server left."""
    with running(folder) as server, Client(server.address) as client:
        over.set()
        assert upload(server.address, over)[-1].upload.size_bytes == len(FILE)
        assert len(client.uploads()) == 1
        client.fit_pca(MODEL, photos[:3], "features.12", components=2)
        client.extract(MODEL, photos[:2], MODULE)
        assert server.internal_error_count == 0
    uploads = [path.name for path in (folder / "weights" / "uploads").iterdir()]
    digest = hashlib.sha256(FILE).hexdigest()
    assert sorted(set(uploads) - {"owners"}) == [digest, f"{digest}.json"]


def test_a_server_killed_in_the_middle_of_all_its_work_starts_clean(
    tmp_path: Path, photos: list[Path]
) -> None:
    over, shared_before = threading.Event(), set(SHARED_MEMORY.iterdir())
    with running(tmp_path, exit_code=-9) as server:
        with bystander(server.address, photos, 0.1):
            pass
        calls = [Caller(work) for work in works(server.address, photos, over).values()]
        partial_files = tmp_path / "weights" / "uploads"
        while not any(path.stat().st_size == HALF for path in partial_files.glob("partial-*")):
            time.sleep(0.01)
        while server.figure("thingsvision_images_total") < 10:
            time.sleep(0.01)
        assert [call.error for call in calls] == [None] * len(calls)
        kill(server)
        for call in calls:
            call.join(END_SECONDS)
            assert call.error is not None
    assert left_files(tmp_path) == []
    assert set(SHARED_MEMORY.iterdir()) <= shared_before
    left = leave_unfinished(tmp_path / "weights")
    over = threading.Event()
    over.set()
    check_restart(tmp_path, photos, over)
    assert not any(path.exists() for path in left)


def test_what_another_server_is_writing_stays(tmp_path: Path) -> None:
    from thingsvision_server.shared_folder.unfinished import remove_unfinished, unfinished_file

    with unfinished_file(tmp_path) as file:
        file.write(b"half of it")
        remove_unfinished(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [Path(file.name).name]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(900)
def test_no_moment_to_be_killed_at_is_a_bad_one(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("all"):
        pytest.skip("kills many servers; --all runs it")
    for number in range(MOMENTS):
        folder, over = tmp_path / str(number), threading.Event()
        folder.mkdir()
        with running(folder, exit_code=-9) as server:
            calls = works(server.address, photos, over)
            calls["upload"] = partial(upload, server.address, over)
            over.set()
            few = [(str(place), photo.read_bytes()) for place, photo in enumerate(photos)]
            with Client(server.address) as client:
                calls["fit"] = partial(client.fit_pca, MODEL, few, "features.0", components=2)
                started = [Caller(work) for work in calls.values()]
                time.sleep(0.1 * number)
                kill(server)
                for call in started:
                    call.join(END_SECONDS)
        check_restart(folder, photos, over)
        assert [name for name in left_files(folder) if ".unfinished" in name] == []


@pytest.mark.timeout(300)
def test_children_end_with_a_killed_server_and_are_started_anew_if_killed(
    tmp_path: Path, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("all"):
        pytest.skip("starts TensorFlow twice; --all runs it")
    with running(tmp_path, exit_code=-9) as server, Client(server.address) as client:
        with bystander(server.address, photos, 0.2) as other:
            loading = Caller(partial(client.load, KERAS))
            while not server.process.children(recursive=True):
                time.sleep(0.01)
            kill_children(server)  # in the middle of their imports
            loading.join(60)
            assert isinstance(loading.error, (BackendCrashedError, UnavailableError)), loading.error
            rows = client.extract(KERAS, photos[:2], "Conv1").features["Conv1"]
            many = [(str(number), photos[-1].read_bytes()) for number in range(400)]
            passing = Caller(lambda: list(client.stream(KERAS, many, "Conv1", batch_size=1)))
            time.sleep(1)
            kill_children(server)  # in the middle of a pass
            passing.join(60)
            assert isinstance(passing.error, BackendCrashedError), passing.error
            again = client.extract(KERAS, photos[:2], "Conv1").features["Conv1"]
            np.testing.assert_array_equal(again, rows)
        assert not other.failures
        assert server.internal_error_count == 0
        kill(server)
    assert left_files(tmp_path) == []

"""A job whose call the server ends goes on by itself, to the same bits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.broken_network import proxy
from support.long_extractions import BATCH, CHUNKS, SQUEEZENET, assert_chunks, task_of
from support.serving import TestServer, serving
from thingsvision_client import Client, errors
from thingsvision_client.images.image import SentImage
from thingsvision_client.images.queue import ImageQueue, Reiterable
from thingsvision_client.jobs import Task, extract_to_folder

STALL_SECONDS = 1.0
LEASE_SECONDS = 0.1
# Far more than a loaded machine keeps a client from its next message.
NO_STALL_SECONDS = 60.0


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    folder = tmp_path_factory.mktemp("weights")
    with serving(
        folder, stall_seconds=STALL_SECONDS, lease_seconds=LEASE_SECONDS, drain_seconds=1.0
    ) as running:
        yield running


@pytest.fixture(scope="module")
def lending_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server that takes a model back from who pauses, and goes on waiting for him."""
    folder = tmp_path_factory.mktemp("weights")
    with serving(folder, stall_seconds=NO_STALL_SECONDS, lease_seconds=LEASE_SECONDS) as running:
        yield running


@pytest.fixture
def impatient(impatient_server: TestServer) -> Iterator[Client]:
    with Client(impatient_server.address) as client:
        yield client


def with_pauses(task: Task, places: list[int], pause: Callable[[], object]) -> Task:
    """Return the task with a pause before these images, when they are sent for the first time."""
    left = list(places)

    def images(queue: ImageQueue) -> Iterator[SentImage]:
        for place, image in enumerate(queue.images):
            is_sent = threading.current_thread() is not threading.main_thread()
            if is_sent and place in left:
                left.remove(place)
                pause()
            yield image

    def opened() -> ImageQueue:
        queue = task.images()
        return replace(queue, images=Reiterable(lambda: images(queue)))

    return replace(task, images=opened)


def test_a_job_goes_on_after_its_images_stalled(
    impatient: Client,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paused = with_pauses(task_of(originals), [70, 97], lambda: time.sleep(2 * STALL_SECONDS))
    extract_to_folder(impatient, paused, tmp_path, options=CHUNKS)
    told = capsys.readouterr().err
    assert told.count("(--stall-seconds)") == 2
    assert told.count("This job does so now.") == 2
    assert f"Resuming at image 64 of 100: {tmp_path}" in told
    assert_chunks(tmp_path, expected)


def test_a_job_that_never_advances_ends(
    impatient: Client, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [10] * 9
    stuck = with_pauses(task_of(originals), places, lambda: time.sleep(2 * STALL_SECONDS))
    with pytest.raises(errors.StalledError, match="stall-seconds"):
        extract_to_folder(impatient, stuck, tmp_path, options=CHUNKS)
    assert capsys.readouterr().err.count("This job does so now.") == 3


def test_a_job_goes_on_with_its_model_after_a_pause(
    lending_server: TestServer,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unload() -> None:
        with Client(lending_server.address) as other:
            deadline = time.monotonic() + NO_STALL_SECONDS / 2
            while time.monotonic() < deadline:
                try:
                    other.unload(SQUEEZENET)
                except (errors.ModelInUseError, errors.NotResidentError):
                    time.sleep(0.02)
                else:
                    return
        raise AssertionError("the lease was not given back")

    paused = with_pauses(task_of(originals), [50], unload)
    with Client(lending_server.address) as client:
        extract_to_folder(client, paused, tmp_path, options=CHUNKS)
    assert not capsys.readouterr().err, "nothing was interrupted"
    assert_chunks(tmp_path, expected)


def cut_in_the_first_chunk(address: str, originals: Path, folder: Path, *, times: int) -> None:
    """Extract to a folder through a network that breaks so often when two batches are sent."""
    has_begun = threading.Event()

    def note(stage: str, _done: int, _count: int | None) -> None:
        if stage == "extracting":
            has_begun.set()

    with proxy() as network:

        def cut() -> None:
            assert has_begun.wait(60)
            network.cut()
            has_begun.clear()

        network.target = address
        paused = with_pauses(task_of(originals), [2 * BATCH] * times, cut)
        with Client(network.address) as client:
            extract_to_folder(client, paused, folder, options=CHUNKS, progress=note)


def test_a_job_goes_on_after_a_loss_before_its_first_chunk(
    server: TestServer,
    originals: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut_in_the_first_chunk(server.address, originals, tmp_path, times=1)
    told = capsys.readouterr().err
    assert told.count("This job does so now.") == 1
    assert "lost before the reply was complete" in told
    assert_chunks(tmp_path, expected)


def test_an_image_that_may_end_servers_is_not_sent_a_third_time(
    server: TestServer, originals: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.UnavailableError, match="lost before the reply was complete"):
        cut_in_the_first_chunk(server.address, originals, tmp_path, times=2)


def test_images_that_can_be_read_only_once_end_a_job(
    impatient: Client, originals: Path, tmp_path: Path
) -> None:
    task = with_pauses(task_of(originals), [70], lambda: time.sleep(2 * STALL_SECONDS))
    once = replace(task.images(), images=iter(task.images().images))
    with pytest.raises(errors.StalledError, match="64 of 100 images are complete"):
        extract_to_folder(impatient, replace(task, images=lambda: once), tmp_path, options=CHUNKS)

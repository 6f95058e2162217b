"""One server, shared by people at work: a single image does not wait for all images of others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.lab import Lab
from support.serving import TestServer
from support.tiny_photos import write_tiny_photos
from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError
from thingsvision_server.access.scopes import Scope
from thingsvision_server.monitoring.usage import Usage

MODEL, OTHER = "torchvision/squeezenet1_1@random:0", "torchvision/squeezenet1_0@random:0"
MODULE = "features.5"
CONNECTIONS = 8
BATCH = 8


@pytest.fixture
def connect(lab: Lab, lab_server: TestServer) -> Iterator[Callable[[str], Client]]:
    """Return what connects a client with a token of a new person's, or one who came before."""
    tokens: dict[str, str] = {}
    with ExitStack() as opened:

        def as_person(name: str) -> Client:
            if name not in tokens:
                tokens[name] = lab.add_token(name, Scope.READ, Scope.EXTRACT, Scope.CONTROL)
                lab_server.running.access.look()
            address = f"grpcs://{lab_server.address}"
            return opened.enter_context(Client(address, token=tokens[name], ca=lab.ca))

        yield as_person


JOBS: list[tuple[str, str, int | None]] = [
    *[("connections", MODEL, BATCH)] * CONNECTIONS,
    ("another", OTHER, BATCH),
    ("merged", MODEL, None),
    ("large", MODEL, 2 * BATCH),
]
"""People at work: name, model and batch size of each of their connections."""


@contextmanager
def people_at_work(connect: Callable[[str], Client], images: list[bytes]) -> Iterator[None]:
    """Have the device used by all jobs while the context lasts."""
    stopped, clients = threading.Event(), [connect(name) for name, _, _ in JOBS]

    def endless() -> Iterator[tuple[str, bytes]]:
        for number in itertools.takewhile(lambda _: not stopped.is_set(), itertools.count()):
            yield str(number), images[number % len(images)]

    def work(client: Client, model: str, batch_size: int | None) -> None:
        try:
            for _ in client.stream(model, endless(), MODULE, batch_size=batch_size):
                pass
        except ThingsvisionError:
            assert stopped.is_set()

    threads = [
        threading.Thread(target=work, args=(client, model, size))
        for client, (_, model, size) in zip(clients, JOBS, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for client in clients:
            client.close()
        for thread in threads:
            thread.join(60)


def wait_until_all_wait(server: TestServer) -> None:
    """Wait until the connections have had a batch on average, and more of theirs wait behind it."""
    until = time.monotonic() + 60
    while usage_of(server, "connections").image_count < CONNECTIONS * BATCH:
        assert time.monotonic() < until, "nobody's images are computed"
        time.sleep(0.05)


def usage_of(server: TestServer, person: str) -> Usage:
    return server.running.metrics.people.copy().get(person, Usage())


def test_a_single_image_does_not_wait_for_all_images_of_others(
    connect: Callable[[str], Client], lab_server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    """In order of arrival, it would wait for as long as the oldest image has waited by then.

    The server's own times are compared, which have nothing of the way, of the decode, and of what
    else the machine has to do.
    """
    write_tiny_photos(tmp_path, photos, 5)  # so that the device is what all wait for
    images, waits = [path.read_bytes() for path in sorted(tmp_path.glob("*.bmp"))], []
    fifth = connect("fifth")
    fifth.load(MODEL)
    fifth.load(OTHER)
    with people_at_work(connect, images):
        wait_until_all_wait(lab_server)
        for _ in range(5):
            oldest = lab_server.running.metrics.people.recent()["connections"].queued_seconds
            before = usage_of(lab_server, "fifth").wait_seconds
            fifth.extract(MODEL, [("one", images[0])], MODULE, batch_size=1)
            waits.append((usage_of(lab_server, "fifth").wait_seconds - before) / oldest)
    assert sorted(waits)[len(waits) // 2] < 1 / 2, waits

"""Clients that stop, die or time out cost the server neither memory nor the device."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from support.closeness import assert_close
from support.server_process import ServerProcess, server_process
from support.serving import TestServer, serving
from thingsvision_client import Client, errors
from thingsvision_server.settings import Settings

ALEXNET = "torchvision/alexnet@random:0"
ALEXNET_MODULE = "features.0"
ALEXNET_ROW_BYTES = 4 * 64 * 55 * 55
ASKED_BYTES = 700_000_000
STOP_SECONDS = 5
GROWTH_BYTES = 200_000_000

MAX_BATCH = 8
DEADLINE_SECONDS = 6

SQUEEZENET = "torchvision/squeezenet1_0@random:0"
SQUEEZENET_MODULE = "features.12"


@pytest.fixture(scope="module")
def pictures(photos: list[Path]) -> list[bytes]:
    """The photographs, small."""
    return [_small_jpeg(path) for path in photos]


def _small_jpeg(path: Path) -> bytes:
    file = io.BytesIO()
    Image.open(path).convert("RGB").resize((240, 240)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server of small batches, so that tests of what it does between them are short."""
    folder = tmp_path_factory.mktemp("weights")
    with serving(folder, max_batch=MAX_BATCH, drain_seconds=1.0) as running_server:
        yield running_server


def endless(pictures: list[bytes]) -> Iterator[tuple[str, bytes]]:
    for number, picture in enumerate(itertools.cycle(pictures)):
        yield f"{number}.jpg", picture


def lease_counts(client: Client) -> dict[str, int]:
    return {str(resident.model): resident.lease_count for resident in client.residency().models}


@contextmanager
def most_memory(server: ServerProcess) -> Iterator[list[int]]:
    """Record the peak memory of the server in the context, as a list of one."""
    most, over = [server.resident_bytes], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], server.resident_bytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def serve_others(client: Client, pictures: list[bytes]) -> None:
    for model, module in ((ALEXNET, "features.12"), (SQUEEZENET, SQUEEZENET_MODULE)):
        some = itertools.islice(endless(pictures), 20)
        assert len(client.extract(model, some, module).images) == 20


def test_a_client_that_stops_reading_costs_little_memory_and_no_other_clients_time(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    """The memory of a busy server varies: growth counts from its peak while busy."""
    image_count = ASKED_BYTES // ALEXNET_ROW_BYTES
    with (
        server_process(tmp_path) as server,
        Client(server.address) as client,
        Client(server.address) as slow_client,
    ):
        named = [(f"{n}.jpg", picture) for n, picture in enumerate(pictures)]
        expected = client.extract(ALEXNET, named, ALEXNET_MODULE).features[ALEXNET_MODULE]
        with most_memory(server) as level_at_work:
            for count in (300, *[100] * 3):  # as long as others are served below
                warm_up = slow_client.stream(
                    ALEXNET, itertools.islice(endless(pictures), count), ALEXNET_MODULE
                )
                next(warm_up)
                serve_others(client, pictures)
                for _ in warm_up:
                    pass
        level = server.resident_bytes

        asked = itertools.islice(endless(pictures), image_count)
        slow = slow_client.stream(ALEXNET, asked, ALEXNET_MODULE)
        parts = [next(slow)]
        stopped, served_count = time.monotonic(), 0
        with most_memory(server) as most_alone:
            time.sleep(STOP_SECONDS / 2)
        with most_memory(server) as most_with_others:
            while served_count < 2 or time.monotonic() - stopped < STOP_SECONDS:
                serve_others(client, pictures)
                served_count += 1
        growth = [most_alone[0] - level, most_with_others[0] - level_at_work[0]]
        print("grew, alone and with others, by", growth, "bytes; others served:", served_count)
        assert max(growth) < GROWTH_BYTES

        row_count = 0
        for names, rows in itertools.chain(parts, slow):
            for name, row in zip(names, rows[ALEXNET_MODULE], strict=True):
                assert name == f"{row_count}.jpg"
                if row_count % 10 < 2:
                    of_picture = expected[row_count % len(pictures)]
                    assert_close(row, of_picture)
                row_count += 1
        assert row_count == image_count
        assert server.resident_bytes - level_at_work[0] < GROWTH_BYTES


CLIENT_THAT_GOES_ON = """
import itertools, sys, time
from pathlib import Path
from thingsvision_client import Client

server, model, module, folder, reads = sys.argv[1:]
files = itertools.cycle(sorted(Path(folder).iterdir()))
images = ((str(number), file.read_bytes()) for number, file in enumerate(files))
stream = Client(server).stream(model, images, module)
next(stream)
print("reading", flush=True)
for _ in stream:
    if reads == "stops":
        time.sleep(1000)
"""


@pytest.fixture
def folder(tmp_path: Path, pictures: list[bytes]) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for number, picture in enumerate(pictures):
        (made / f"{number}.jpg").write_bytes(picture)
    return made


@pytest.mark.parametrize("reads", ["goes on", "stops"])
def test_a_killed_client_gives_its_lease_back_within_a_second(
    server: TestServer, client: Client, folder: Path, reads: str
) -> None:
    client.load(SQUEEZENET)
    script = [sys.executable, "-c", CLIENT_THAT_GOES_ON, server.address]
    with subprocess.Popen(
        [*script, SQUEEZENET, SQUEEZENET_MODULE, str(folder), reads],
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        time.sleep(0.5 if reads == "goes on" else 3)  # in full swing, or stopped by its buffers
        assert lease_counts(client)[SQUEEZENET] == 1
        reader.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert_lease_back(client, killed)
    assert_device_stops(server)


def figure(server: TestServer, name: str) -> float:
    value = server.running.metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def assert_device_stops(server: TestServer) -> None:
    """The leases are back: a pass per lane may still run, and decoding of what was begun."""
    passes, decoded = (f"thingsvision_{name}_seconds_count" for name in ("forward", "decode"))
    threads = psutil.cpu_count() or 1
    before = figure(server, passes), figure(server, decoded)
    time.sleep(1)
    after = figure(server, passes), figure(server, decoded)
    assert after[0] - before[0] <= Settings().cpu_lanes
    assert after[1] - before[1] <= threads


def _closes(stream: Any, _client: Client) -> None:
    stream.close()


def _closes_the_connection(stream: Any, client: Client) -> None:
    client.close()
    with pytest.raises(errors.StoppedError):
        for _ in stream:
            pass


@pytest.mark.parametrize("leave", [_closes, _closes_the_connection])
def test_a_cancelled_request_stops_the_device(
    server: TestServer, client: Client, pictures: list[bytes], leave: Callable[[Any, Client], None]
) -> None:
    leaving_client = Client(server.address)
    stream = leaving_client.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE)
    for _ in range(3):
        next(stream)
    assert lease_counts(client)[SQUEEZENET] == 1
    leave(stream, leaving_client)
    assert_lease_back(client)
    assert_device_stops(server)
    leaving_client.close()


@pytest.mark.parametrize("reads", [True, False])
def test_an_expired_request_stops_the_device(
    server: TestServer, client: Client, pictures: list[bytes], reads: bool
) -> None:
    client.load(SQUEEZENET)
    with Client(server.address, timeout=DEADLINE_SECONDS) as hurried:
        stream = hurried.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE)
        next(stream)
        assert lease_counts(client)[SQUEEZENET] == 1
        time.sleep(0 if reads else DEADLINE_SECONDS)
        with pytest.raises(errors.DeadlineError):
            for _ in stream:
                pass
        assert_lease_back(client)
        assert_device_stops(server)


def assert_lease_back(client: Client, left: float | None = None) -> None:
    """Fail if the lease comes back after a second, or after two full batches on this machine."""
    left = left or time.monotonic()
    while lease_counts(client)[SQUEEZENET]:
        time.sleep(0.01)
    took = time.monotonic() - left
    print(f"the lease was back after {took:.3f} s")
    if took > 1:
        noise = np.random.default_rng(0).normal(size=(MAX_BATCH, 3, 224, 224)).astype(np.float32)
        started = time.monotonic()
        client.extract(SQUEEZENET, noise, SQUEEZENET_MODULE, batch_size=MAX_BATCH)
        assert took < 1 + 2 * (time.monotonic() - started)


def test_a_client_that_cancelled_is_one_line_in_the_log(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    with server_process(tmp_path, max_batch=MAX_BATCH) as server, Client(server.address) as client:
        client.load(SQUEEZENET)
        for stop_seconds in (0, 2):
            stream = client.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE)
            next(stream)
            time.sleep(stop_seconds)
            stream.close()
            assert_lease_back(client)
        with Client(server.address, timeout=DEADLINE_SECONDS) as hurried:
            streams = [
                hurried.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE) for _ in range(2)
            ]
            for stream in streams:
                next(stream)
            time.sleep(DEADLINE_SECONDS)
            assert_lease_back(client)
    lines = [json.loads(line) for line in server.log.splitlines()]
    extracts = [line for line in lines if line["event"] == "Extract"]
    assert [line["status"] for line in extracts] == ["CANCELLED"] * 4
    for line in extracts:
        assert line["model"] == SQUEEZENET
        assert line["modules"] == [SQUEEZENET_MODULE]
        assert line["images"] > 0


def test_a_client_that_stopped_reading_gets_an_error_when_the_server_shuts_down(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    with server_process(tmp_path, drain_seconds=1) as server, Client(server.address) as client:
        stream = client.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE)
        next(stream)
        time.sleep(2)
        server.process.terminate()
        time.sleep(0.5)
        with pytest.raises(errors.DrainingError):
            _read_slowly(stream)


def _read_slowly(stream: Any) -> None:
    for _ in stream:
        time.sleep(0.3)


def test_images_that_were_ready_when_their_client_cancelled_are_counted(
    server: TestServer, client: Client, pictures: list[bytes]
) -> None:
    counter = "thingsvision_cancelled_images_total"
    before = figure(server, counter)
    stream = client.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE)
    next(stream)
    # Nobody reads: the device stops, and only two more batches are decoded.
    decoded = "thingsvision_decode_seconds_count"
    seen = -1.0
    while figure(server, decoded) != seen:
        seen = figure(server, decoded)
        time.sleep(1)
    stream.close()
    assert_lease_back(client)
    assert 0 < figure(server, counter) - before <= 2 * MAX_BATCH


def test_a_small_request_passes_a_huge_one(
    server: TestServer, client: Client, pictures: list[bytes]
) -> None:
    stop, read_count = threading.Event(), 0

    def read_hugely() -> None:
        nonlocal read_count
        with Client(server.address) as huge_client:
            for names, _ in huge_client.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE):
                read_count += len(names)
                if stop.is_set():
                    return

    thread = threading.Thread(target=read_hugely)
    thread.start()
    try:
        while not read_count:
            time.sleep(0.01)
        passes = "thingsvision_forward_seconds_count"
        before = figure(server, passes)
        assert (
            len(client.extract(SQUEEZENET, [("one", pictures[0])], SQUEEZENET_MODULE).images) == 1
        )
        assert figure(server, passes) - before <= 5
    finally:
        stop.set()
        thread.join()


def test_a_batch_size_gives_the_same_bits_whatever_else_runs(
    server: TestServer, client: Client, pictures: list[bytes]
) -> None:
    named = [(f"{n}", pictures[n % len(pictures)]) for n in range(20)]

    def features() -> Any:
        extraction = client.extract(SQUEEZENET, named, SQUEEZENET_MODULE, batch_size=3)
        return extraction.features[SQUEEZENET_MODULE]

    quiet = features()
    with Client(server.address) as other:
        streams = [
            other.stream(SQUEEZENET, endless(pictures), SQUEEZENET_MODULE, batch_size=size)
            for size in (None, 3, 5)
        ]
        for stream in streams:
            next(stream)
        readers = [threading.Thread(target=_read, args=(stream, 5)) for stream in streams]
        for reader in readers:
            reader.start()
        np.testing.assert_array_equal(features(), quiet)
        for reader in readers:
            reader.join()


def _read(stream: Any, count: int) -> None:
    for _ in range(count):
        next(stream)
    stream.close()

"""Signals of a server: one stops it gracefully, a second at once; others only make it talk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.open_request import OpenRequest
from support.server_process import ServerProcess, server_process
from thingsvision_client import Client
from thingsvision_client.errors import StorageError
from thingsvision_server.start.log import lasting

MODEL = "torchvision/squeezenet1_1@random:0"
IMAGES = np.zeros((1, 3, 64, 64), np.float32)
OTHER = "torchvision/squeezenet1_1@random:1"
ROOM_FOR_ONE = 8_000_000
IDLE_STOP_SECONDS = 3


def wait_until(is_true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def events(server: ServerProcess, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def watch_health(address: str, found: list[object]) -> threading.Thread:
    def run() -> None:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                replies = stub.Watch(health_pb2.HealthCheckRequest())
                found.extend(reply.status for reply in replies)
            except grpc.RpcError as error:
                found.append(error.code())

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_usr1_logs_stacks_and_the_queue_and_an_idle_server_stops_at_once(tmp_path: Path) -> None:
    """Whatever is connected to it, and whatever it has in memory."""
    with (
        server_process(tmp_path, device_memory=ROOM_FOR_ONE) as server,
        Client(server.address) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        wait_until(lambda: events(server, "started"))
        (summary,) = events(server, "started")
        assert summary["address"] == server.address
        for name in ("device", "budget", "weights", "downloads", "metrics", "access", "isolation"):
            assert summary[name]
        client.extract(MODEL, IMAGES, "features.0")
        running = OpenRequest(server.address)
        loading = thread.submit(client.load, OTHER)
        wait_until(lambda: server.figure("thingsvision_memory_waiters"))
        server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: events(server, "queue"))
        (queue,) = events(server, "queue")
        assert [call["method"] for call in queue["calls"]] == ["Extract", "LoadModel"]
        (waiting,) = queue["waiting_for_memory"]
        assert (waiting["model"], waiting["place"]) == (OTHER, 1)
        assert MODEL in waiting["reason"]
        assert [model["model"] for model in queue["models"]] == [MODEL]
        assert (queue["images_waiting"], queue["loads_waiting"]) == (0, 1)
        stacks = events(server, "stack")
        (main,) = (one["stack"] for one in stacks if one.get("thread", "").startswith("MainThread"))
        assert "_serve_until_signal" in main or "run_forever" in main
        (watch,) = (one["stack"] for one in stacks if one.get("task") == "watch device")
        assert "in _stop_when_lost" in watch
        running.close()
        loading.result(60)

        found: list[object] = []
        watching = watch_health(server.address, found)
        wait_until(lambda: found)
        started = time.monotonic()
        server.process.terminate()
        server.process.wait(30)
        assert time.monotonic() - started < IDLE_STOP_SECONDS
        watching.join(10)
        assert found == [
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
            grpc.StatusCode.UNAVAILABLE,
        ]


def test_hup_reads_the_file_again(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("drain_seconds = 60\n")
    with server_process(tmp_path, config=file, drain_seconds=None) as server:
        file.write_text(
            "drain_seconds = 0.1\nallow_download = true\nimage_store = 0\nupload_quota = 10\n"
            "max_batch = 5\nlog_level = 'warning'\n"
        )
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: events(server, "a restart is needed to change these options"))
        (told,) = events(server, "a restart is needed to change these options")
        assert told["options"] == ["max_batch"]
        assert not events(server, "the settings were read again"), "the level counts already"
        with Client(server.address) as client:
            weights = tmp_path / "some.pth"
            weights.write_bytes(bytes(100))
            with pytest.raises(StorageError, match="quota of 10 bytes"):
                client.upload_weights(weights)
        file.write_text("stall_second = 1\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: events(server, "the settings were not read again"))
        (wrong,) = events(server, "the settings were not read again")
        assert "Did you mean stall_seconds?" in wrong["reason"]
        running = OpenRequest(server.address)
        started = time.monotonic()
        server.process.terminate()
        server.process.wait(30)
        assert time.monotonic() - started < 20, "the new deadline counts"
        running.close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_server_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with server_process(tmp_path, drain_seconds=60, exit_code=128 + second) as server:
        running = OpenRequest(server.address)
        found: list[object] = []
        watching = watch_health(server.address, found)
        wait_until(lambda: found)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)  # as from `timeout`, which signals its group too
        wait_until(lambda: health_pb2.HealthCheckResponse.NOT_SERVING in found)
        time.sleep(1.2)
        assert server.process.is_running(), "the call still runs"
        started = time.monotonic()
        server.process.send_signal(second)
        server.process.wait(30)
        assert time.monotonic() - started < 1
        running.close()
        watching.join(10)


ON_A_TERMINAL = """
import fcntl, os, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from thingsvision_server.start.signals import Signals
signals = Signals()
signals.stop = lambda: os._exit(7)
signals.start_reloading(lambda: os.write(1, b"reloaded"))
signals.listen()
os.write(1, b"ready")
time.sleep(30)
"""


def test_a_closed_terminal_stops_the_server_but_a_signal_alone_does_not() -> None:
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL], stdin=theirs, stdout=theirs, start_new_session=True
    )
    os.close(theirs)
    assert os.read(ours, 100) == b"ready"
    child.send_signal(signal.SIGHUP)
    assert os.read(ours, 100) == b"reloaded"
    os.close(ours)
    assert child.wait(10) == 7


def test_a_log_that_cannot_be_written_fails_nothing() -> None:
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closing would fail
    for _ in range(2):
        print("lost", file=lasting(full), flush=True)
    with pytest.raises(OSError, match="No space"):
        full.close()

"""Calls that wait for memory are told their place and why, everywhere, and not for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from support.serving import TestServer, serving
from support.stock_calls import extraction, spec, stock_calls
from thingsvision_client import Client, errors
from thingsvision_client.cli import app
from thingsvision_client.images.queue import queue_images
from thingsvision_client.jobs import FolderOptions, Task, extract_to_folder
from thingsvision_client.values.model import as_model
from thingsvision_client.values.options import ExtractOptions
from thingsvision_proto.v1 import thingsvision_pb2 as pb

SQUEEZENET_BYTES = 4 * 1_248_424
ROOM = 3 * SQUEEZENET_BYTES
MODULE = "features.3"
LARGE = "torchvision/mobilenet_v3_small@random:0"
"""Takes the room of two SqueezeNets and a bit."""
PATIENCE_SECONDS = 60.0
TOLD = "waiting for memory, place 1 of 1: "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A server with room for three models, on which streams keep what they lease."""
    folder = tmp_path_factory.mktemp("weights")
    with serving(folder, device_memory=ROOM, lease_seconds=600, drain_seconds=1) as running:
        yield running


def squeezenet(seed: int) -> str:
    return f"torchvision/squeezenet1_0@random:{seed}"


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def held(client: Client, photos: list[Path], *models: str) -> Iterator[None]:
    """Lease models as long as the context lasts."""
    over = threading.Event()

    def images() -> Iterator[tuple[str, bytes]]:
        yield "first", photos[0].read_bytes()
        over.wait(PATIENCE_SECONDS)

    with ExitStack() as stack:
        stack.callback(over.set)
        for model in models:
            stream = client.stream(model, images(), "features.3", batch_size=1)
            stack.enter_context(closing(stream))
            next(stream)
        yield


class Stages:
    """Progress that keeps the stages that it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, stage: str, _done: int, _total: int | None) -> None:
        if not self.told or self.told[-1] != stage:
            self.told.append(stage)

    @property
    def waits(self) -> list[str]:
        return [stage for stage in self.told if stage.startswith("waiting")]


def calls_of(
    client: Client, photos: list[Path], folder: Path
) -> dict[str, Callable[[Stages], object]]:
    """Return a call of each kind that needs a model."""

    def stream(stages: Stages) -> None:
        opened = client.stream(LARGE, photos, MODULE)
        opened.on_wait = lambda stage: stages(stage, 0, None)
        list(opened)

    def job(stages: Stages) -> None:
        task = Task(as_model(LARGE), (MODULE,), lambda: queue_images(photos), ExtractOptions())
        task = replace(task, options=replace(task.options, batch_size=2))
        extract_to_folder(client, task, folder, options=FolderOptions(), progress=stages)

    return {
        "extract": lambda stages: client.extract(LARGE, photos, MODULE, progress=stages),
        "rdm": lambda stages: client.rdm(LARGE, photos, MODULE, progress=stages),
        "pca": lambda stages: client.fit_pca(LARGE, photos, MODULE, components=1, progress=stages),
        "load": lambda stages: client.load(LARGE, lambda stage, _s: stages(stage, 0, None)),
        "stream": stream,
        "job": job,
    }


def test_every_kind_of_call_is_told_and_goes_on(
    server: TestServer, client: Client, photos: list[Path], tmp_path: Path
) -> None:
    calls = calls_of(client, photos[:2], tmp_path)
    stages = {kind: Stages() for kind in calls}
    with ThreadPoolExecutor(len(calls)) as threads:
        with held(client, photos, squeezenet(0), squeezenet(1)):
            waiting = [threads.submit(call, stages[kind]) for kind, call in calls.items()]
            until(
                lambda: (
                    all(one.waits for one in stages.values()) or any(one.done() for one in waiting)
                )
            )
        for one in waiting:
            one.result()
    for kind, told in stages.items():
        (first, *_) = told.waits
        if kind != "load":
            assert first.startswith(TOLD + f"{LARGE} needs "), first
            assert f"in use: {squeezenet(0)} (1 request), {squeezenet(1)}" in first
            after = told.told[told.told.index(told.waits[-1]) + 1]
            assert after == "loading mobilenet_v3_small", told.told
    assert stages["load"].told[0] == "loading"
    assert stages["load"].told[-1] == "ready"


def test_whoever_fits_is_let_through_and_status_shows_who_waits(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with held(client, photos, squeezenet(0), squeezenet(1)):
            waiting = threads.submit(client.load, LARGE)
            until(lambda: client.residency().waiting)
            client.extract(squeezenet(2), photos[:1], MODULE)
            (one,) = client.residency().waiting
            shown = CliRunner().invoke(app, ["status", "--server", server.address])
        waiting.result()
    assert (one.model_id, one.request_count) == (LARGE, 1)
    assert 2 * SQUEEZENET_BYTES < one.needed_bytes < 3 * SQUEEZENET_BYTES
    assert "model waiting for memory" in shown.stdout
    assert f"{LARGE} needs {one.needed_bytes:,} bytes" in shown.stdout
    assert not client.residency().waiting
    shown = CliRunner().invoke(app, ["status", "--server", server.address])
    assert "waiting for memory" not in shown.stdout


def test_the_command_that_loads_says_why_it_waits(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with held(client, photos, squeezenet(0), squeezenet(1)):
            command = ["load", LARGE, "--server", server.address]
            loading = threads.submit(CliRunner().invoke, app, command)
            until(lambda: client.residency().waiting)
            time.sleep(1.2)  # it is told once a second
        done = loading.result()
    assert done.exit_code == 0, done.output
    assert f"waiting for memory: {LARGE} needs" in done.stderr
    assert f"{LARGE} is on cpu" in done.stdout


def test_who_waits_too_long_is_told_when_to_try_again(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    header = extraction(MODULE, model=spec("mobilenet_v3_small"))
    with (
        start_server(device_memory=ROOM, lease_seconds=600, wait_seconds=1) as server,
        Client(server.address) as client,
        held(client, photos, squeezenet(0), squeezenet(1)),
    ):
        with stock_calls(server.address) as stock:
            refusal = stock.refusal("Extract", [header])
        with pytest.raises(errors.ExhaustedError, match=r"--wait-seconds.*in use: ") as refused:
            client.load(LARGE)
        assert not client.residency().waiting
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.reason == "ExhaustedError"
    assert 1 <= refusal.details["RetryInfo"].retry_delay.seconds < 10
    assert refused.value.subject == LARGE


def test_a_load_tells_other_clients_its_place(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    request = pb.LoadModelRequest(model=spec("mobilenet_v3_small"))
    with held(client, photos, squeezenet(0), squeezenet(1)), stock_calls(server.address) as stock:
        call = stock.start("LoadModel", request)
        told = next(one for one in call if one.stage == pb.LOAD_STAGE_WAITING)
        call.cancel()
    assert (told.place, told.queue_length) == (1, 1)
    assert told.reason.startswith(f"{LARGE} needs ")

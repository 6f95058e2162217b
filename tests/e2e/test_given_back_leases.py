"""A stream that waits for its client gives its model back, and loses nothing when it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from torchvision import models

from support.serving import TestServer, serving
from support.stock_calls import extraction, spec
from thingsvision_client import Client, Model, errors
from thingsvision_proto.v1 import thingsvision_pb2_grpc as pb_grpc

SQUEEZENET_BYTES = 4 * 1_248_424
MODULE = "features.12"
MODEL = "torchvision/squeezenet1_0@random:0"
OTHERS = [f"torchvision/squeezenet1_0@random:{seed}" for seed in (1, 2)]
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def server(weights: Path) -> Iterator[TestServer]:
    """A server with room for two models, where leases end quickly."""
    room = 2 * SQUEEZENET_BYTES + SQUEEZENET_BYTES // 2
    with serving(
        weights,
        lease_seconds=0.2,
        device_memory=room,
        max_batch=3,
        drain_seconds=1.0,
        person_calls=1000,
    ) as running:
        yield running


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lease_count(client: Client, model: str = MODEL) -> int | None:
    found = [one.lease_count for one in client.residency().models if str(one.model) == model]
    return found[0] if found else None


def return_count(server: TestServer) -> float:
    name = "thingsvision_lease_returns_total"
    return server.running.metrics.registry.get_sample_value(name) or 0.0


def push_out(
    client: Client, server: TestServer, before: float, photos: list[Path], model: str = MODEL
) -> None:
    """Wait until the model was given back once more, and have others take its memory."""
    until(lambda: return_count(server) > before)
    for other in OTHERS:
        client.extract(other, photos[:1], MODULE)
    assert lease_count(client, model) is None


class Paused:
    """Images of which all but the first two come only after `go_on`; their number is not known."""

    def __init__(self, photos: list[Path], *, goes_on: bool = False) -> None:
        self._photos = photos
        self.go_on = threading.Event()
        if goes_on:
            self.go_on.set()

    def __iter__(self) -> Iterator[Path]:
        yield from self._photos[:2]
        assert self.go_on.wait(PATIENCE_SECONDS)
        yield from self._photos[2:]


def test_a_paused_sender_loses_nothing(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    pictures = photos * 2
    options: dict[str, Any] = {"batch_size": 3}
    usual = client.extract(MODEL, Paused(pictures, goes_on=True), MODULE, **options)
    paused, found = Paused(pictures), list[Any]()

    def extract() -> None:
        with Client(server.address) as other:
            found.append(other.extract(MODEL, paused, MODULE, **options))

    thread, before = threading.Thread(target=extract), return_count(server)
    thread.start()
    push_out(client, server, before, photos)
    paused.go_on.set()
    thread.join()
    np.testing.assert_array_equal(found[0].features[MODULE], usual.features[MODULE])
    assert found[0].images == usual.images
    assert found[0].provenance.model_sha256 == usual.provenance.model_sha256


def test_a_paused_reader_loses_nothing(
    server: TestServer, client: Client, photos: list[Path]
) -> None:
    pictures = [(f"{number}", path.read_bytes()) for number, path in enumerate(photos * 6)]
    usual = client.extract(MODEL, pictures, "features.0", batch_size=3)
    with closing(client.stream(MODEL, pictures, "features.0", batch_size=3)) as stream:
        parts, before = [next(stream)], return_count(server)
        push_out(client, server, before, photos)  # what is not on its way is not computed
        parts.extend(stream)
    assert [name for names, _ in parts for name in names] == usual.images
    rows = np.concatenate([part["features.0"] for _, part in parts])
    np.testing.assert_array_equal(rows, usual.features["features.0"])


@pytest.mark.parametrize("asked", ["rdm", "pca"])
def test_a_pause_changes_no_rdm_and_no_pca(
    server: TestServer, client: Client, photos: list[Path], asked: str
) -> None:
    pictures, found = photos[:3] * 2, list[Any]()

    def ask(caller: Client, images: Any) -> Any:
        if asked == "rdm":
            return caller.rdm(MODEL, images, MODULE, batch_size=3).rdms[MODULE]
        named = ((f"{number}", path.read_bytes()) for number, path in enumerate(images))
        return caller.fit_pca(MODEL, named, MODULE, components=2, batch_size=3).sha256

    paused = Paused(pictures)

    def ask_paused() -> None:
        with Client(server.address) as other:
            found.append(ask(other, paused))

    thread, before = threading.Thread(target=ask_paused), return_count(server)
    thread.start()
    push_out(client, server, before, photos)
    paused.go_on.set()
    thread.join()
    np.testing.assert_array_equal(found[0], ask(client, Paused(pictures, goes_on=True)))


def test_streams_of_a_header_and_nothing_hold_no_model(server: TestServer, client: Client) -> None:
    async def open_and_hold() -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = pb_grpc.FeatureServiceStub(channel)
            calls = [stub.Extract() for _ in range(500)]
            header = extraction(MODULE, model=spec("squeezenet1_0"))
            await asyncio.gather(*(call.write(header) for call in calls))
            replies = await asyncio.gather(*(call.read() for call in calls))
            assert all(reply.HasField("header") for reply in replies)
            await asyncio.to_thread(until, lambda: lease_count(client) == 0)
            assert await asyncio.to_thread(client.unload, MODEL) == SQUEEZENET_BYTES
            assert not any(call.done() for call in calls)
            for call in calls:
                call.cancel()

    asyncio.run(open_and_hold())


def _lost(client: Client, photos: list[Path], model: str, spoil: Callable[[], object]) -> Any:
    """Return the error of a stream whose model is spoilt while it has given that back."""
    paused = Paused(photos)
    images = ((path.name, path.read_bytes()) for path in paused)
    with closing(client.stream(model, images, MODULE, batch_size=1)) as stream:
        next(stream)
        until(lambda: lease_count(client, model) == 0)
        client.unload(model)
        spoil()
        paused.go_on.set()
        with pytest.raises(errors.LeaseLostError) as lost:
            list(stream)
    return lost.value


def test_deleted_weights_are_told_as_unavailable(
    client: Client, photos: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "mine.pth"
    torch.save(models.squeezenet1_0().state_dict(), file)
    sha256 = client.upload_weights(file)
    model = str(Model("torchvision", "squeezenet1_0", f"sha256:{sha256}"))
    error = _lost(client, photos, model, lambda: client.delete_upload(sha256))
    assert isinstance(error, errors.UnavailableError)
    assert "--lease-seconds" in str(error)
    assert sha256 in str(error)


def test_a_stream_never_goes_on_with_other_weights(
    client: Client, photos: list[Path], weights: Path
) -> None:
    file = weights / "torchvision" / "squeezenet1_0.IMAGENET1K_V1.pth"
    file.parent.mkdir(exist_ok=True)

    def write(seed: int) -> None:
        torch.manual_seed(seed)
        torch.save(models.squeezenet1_0().state_dict(), file)

    write(0)
    model = "torchvision/squeezenet1_0@IMAGENET1K_V1"
    error = _lost(client, photos, model, lambda: write(1))
    assert "its weights have changed" in str(error)


def test_a_model_that_pins_leave_no_room_for_is_told_as_unavailable(
    client: Client, photos: list[Path]
) -> None:
    def pin_others() -> None:
        for other in OTHERS:
            client.pin(other)

    try:
        error = _lost(client, photos, MODEL, pin_others)
        assert "pinned models hold" in str(error)
    finally:
        for other in OTHERS:
            client.pin(other, False)

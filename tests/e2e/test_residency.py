"""More models than fit, and many who want them: right results within the budget, nothing leaked."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms._presets import ImageClassification

from support.server_process import server_process
from support.serving import TestServer, all_cores
from thingsvision_client import Client, PreprocessingOverrides, errors

MODULE = "features.12"
SMALL = PreprocessingOverrides(resize=64, crop=64)
BATCH = 3
SEEDS = range(5)
CLIENTS = 8
ROUNDS = 2
SQUEEZENET_BYTES = 4 * 1_248_424


def squeezenet(seed: int) -> str:
    return f"torchvision/squeezenet1_0@random:{seed}"


def extract(client: Client, seed: int, photos: list[Path]) -> Any:
    images = photos[:BATCH]
    return client.extract(squeezenet(seed), images, MODULE, batch_size=BATCH, preprocessing=SMALL)


def figure(server: TestServer, name: str, **labels: str) -> float:
    return server.running.metrics.registry.get_sample_value(name, labels) or 0.0


def load_count(server: TestServer, result: str = "ok") -> float:
    return figure(server, "thingsvision_model_loads_total", result=result)


def eviction_count(server: TestServer) -> float:
    return figure(server, "thingsvision_model_evictions_total", reason="room")


@pytest.fixture(scope="module")
def expected(photos: list[Path]) -> dict[int, Any]:
    """Features by torchvision in this process: per seed, of the photographs in one batch."""
    preset = ImageClassification(crop_size=64, resize_size=64)
    batch = torch.stack([preset(Image.open(path).convert("RGB")) for path in photos[:BATCH]])
    return {seed: _plain_features(seed, batch) for seed in SEEDS}


def _plain_features(seed: int, batch: torch.Tensor) -> Any:
    torch.manual_seed(seed)
    network = models.squeezenet1_0().eval()
    kept: list[torch.Tensor] = []
    network.get_submodule(MODULE).register_forward_hook(
        lambda _m, _i, out: kept.append(out.clone())
    )
    with torch.inference_mode(), all_cores():
        network(batch)
    return kept[0].numpy()


@contextmanager
def watched(server: TestServer) -> Iterator[list[tuple[int, int, int]]]:
    """Sample (used, used and reserved, held by models that are there), bytes, all the time."""
    samples: list[tuple[int, int, int]] = []
    over = threading.Event()

    def look() -> None:
        residency = server.running.residency
        loaded = [resident.ready_model for resident in residency.residents()]
        held = sum(model.model.resident_bytes for model in loaded if model)
        used = residency.used_bytes
        samples.append((used, used + residency.reserved_bytes, held))

    def watch() -> None:
        while not over.wait(0.001):
            server.loop.call_soon_threadsafe(look)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()


def test_five_models_in_room_for_two_and_eight_clients(
    start_server: Callable[..., Any], photos: list[Path], expected: dict[int, Any]
) -> None:
    budget_bytes = 2 * SQUEEZENET_BYTES + SQUEEZENET_BYTES // 2

    def ask_in_turn(number: int) -> int:
        with Client(server.address) as client:
            for turn in range(number, number + ROUNDS * len(SEEDS)):
                seed = SEEDS[turn % len(SEEDS)]
                extraction = extract(client, seed, photos)
                np.testing.assert_array_equal(extraction.features[MODULE], expected[seed])
        return number

    with start_server(device_memory=budget_bytes) as server:
        with watched(server) as samples, ThreadPoolExecutor(CLIENTS) as clients:
            assert list(clients.map(ask_in_turn, range(CLIENTS))) == list(range(CLIENTS))
        used, with_reserved, held = (max(column) for column in zip(*samples, strict=True))
        assert len(samples) > 100
        assert SQUEEZENET_BYTES < used <= budget_bytes, "the test must have filled the room"
        assert with_reserved <= budget_bytes + SQUEEZENET_BYTES
        assert held <= budget_bytes
        resident_count = len(server.running.residency.residents())
        assert load_count(server) == eviction_count(server) + resident_count
        assert len(SEEDS) < load_count(server) <= CLIENTS * ROUNDS * len(SEEDS)
        assert load_count(server, "error") == 0


def test_eight_clients_of_a_cold_model_load_it_once(
    start_server: Callable[..., Any], photos: list[Path], expected: dict[int, Any]
) -> None:
    together = threading.Barrier(CLIENTS)

    def ask(_number: int) -> Any:
        with Client(server.address) as client:
            client.residency()
            together.wait()
            return extract(client, 0, photos)

    with start_server() as server, ThreadPoolExecutor(CLIENTS) as clients:
        for extraction in clients.map(ask, range(CLIENTS)):
            np.testing.assert_array_equal(extraction.features[MODULE], expected[0])
        assert load_count(server) == 1


def test_a_model_that_never_fits_is_refused_with_the_figures(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    with start_server(device_memory=SQUEEZENET_BYTES) as server, Client(server.address) as client:
        with pytest.raises(errors.ModelTooLargeError, match=r"46,796,608 bytes.*4,993,696"):
            client.extract("torchvision/resnet18@random:0", photos, "avgpool")
        assert not client.residency().models
        client.extract(squeezenet(0), photos, MODULE)


def test_pinned_and_leased_models_stay(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    budget_bytes = 2 * SQUEEZENET_BYTES
    with start_server(device_memory=budget_bytes) as server, Client(server.address) as client:
        client.pin(squeezenet(0))
        with pytest.raises(errors.ModelInUseError, match="pinned"):
            client.unload(squeezenet(0))
        for seed in (1, 2, 3):
            client.extract(squeezenet(seed), photos, MODULE)
        assert {str(m.model) for m in client.residency().models} == {squeezenet(0), squeezenet(3)}

        client.pin(squeezenet(0), False)
        endless = ((str(n), photos[0].read_bytes()) for n in range(10**9))
        stream = client.stream(squeezenet(0), endless, MODULE)
        next(stream)
        with pytest.raises(errors.ModelInUseError, match="in use by 1 request"):
            client.unload(squeezenet(0))
        client.extract(squeezenet(1), photos, MODULE)
        assert {str(m.model) for m in client.residency().models} == {squeezenet(0), squeezenet(1)}
        stream.close()


def test_whoever_has_the_trailer_may_unload(
    start_server: Callable[..., Any], photos: list[Path]
) -> None:
    with start_server() as server, Client(server.address) as client:
        for _ in range(5):
            client.extract(squeezenet(0), photos[:1], MODULE)
            assert client.unload(squeezenet(0)) == SQUEEZENET_BYTES
        assert not client.residency().models


def test_a_failed_load_is_reported_and_tried_again(
    start_server: Callable[..., Any], photos: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "other.pth"
    torch.save(models.shufflenet_v2_x0_5().state_dict(), broken)
    with start_server() as server, Client(server.address) as client:
        model = f"torchvision/squeezenet1_0@sha256:{client.upload_weights(broken)}"
        with ThreadPoolExecutor(CLIENTS) as threads:
            calls = [threads.submit(client.extract, model, photos, MODULE) for _ in range(CLIENTS)]
            for call in calls:
                assert isinstance(call.exception(), errors.WeightsMismatchError)
        assert 1 <= load_count(server, "error") <= CLIENTS
        assert client.residency().devices[0].reserved_bytes == 0
        before = load_count(server, "error")
        with pytest.raises(errors.WeightsMismatchError):
            client.load(model)
        assert load_count(server, "error") == before + 1


def tiny(path: Path) -> tuple[str, bytes]:
    """Return a photograph of 64 x 64 pixels, as an image of its name."""
    file = io.BytesIO()
    Image.open(path).convert("RGB").resize((64, 64)).save(file, "PNG")
    return path.name, file.getvalue()


@pytest.mark.timeout(600)
def test_a_hundred_cycles_leave_the_servers_memory_as_it_was(
    tmp_path: Path, photos: list[Path]
) -> None:
    """The first cycles load what stays: the library of models, oneDNN's kernels, arenas of malloc.

    Every cycle has other weights, so a model that stays or a cache without bounds would show.
    """
    small, batch_normalised = ("squeezenet1_1", "features.4"), ("shufflenet_v2_x0_5", "stage2")
    images = [tiny(photo) for photo in photos[:2]]

    def cycle(number: int) -> None:
        name, module = small if number % 5 else batch_normalised
        model = f"torchvision/{name}@random:{number}"
        client.load(model)
        client.extract(model, images, module, batch_size=2, preprocessing=SMALL)
        client.unload(model)

    with server_process(tmp_path) as server, Client(server.address) as client:
        for number in range(10):
            cycle(number)
        baseline = server.resident_bytes
        for number in range(10, 110):
            cycle(number)
        assert not client.residency().models
        assert abs(server.resident_bytes - baseline) <= 0.05 * baseline, (
            f"{baseline:,} bytes became {server.resident_bytes:,}"
        )

"""What one person may have in progress; who waits is told, and the operator sees who used what."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from support.lab import Lab
from support.serving import TestServer, serving
from thingsvision_client import Client
from thingsvision_client.errors import TooManyCallsError
from thingsvision_server.access.scopes import Scope
from thingsvision_server.engine.fairness.in_flight import Load

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.2"

_COUNTED = (
    "device_seconds_total",
    "decode_seconds_total",
    "computation_seconds_total",
    "wait_seconds_total",
    "stalled_seconds_total",
    "images_total",
    "received_bytes_total",
    "sent_bytes_total",
)


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Iterator[TestServer]:
    weights = tmp_path_factory.mktemp("weights")
    limits = {"person_calls": 1, "metrics_people": 1}
    with serving(weights, drain_seconds=1.0, **limits, **lab.server_files) as one:
        yield one


def test_a_further_call_waits_until_another_has_ended(
    small_server: TestServer, lab: Lab, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"grpcs://{small_server.address}"
    tokens = {name: lab.add_token(name, Scope.READ, Scope.EXTRACT) for name in ("busy", "free")}
    small_server.running.access.look()
    going_on = threading.Event()

    def images() -> Iterator[tuple[str, bytes]]:
        yield "first", photos[0].read_bytes()
        going_on.wait(60)

    with (
        Client(address, token=tokens["busy"], ca=lab.ca) as busy,
        Client(address, token=tokens["busy"], ca=lab.ca, timeout=1.0) as again,
        Client(address, token=tokens["free"], ca=lab.ca) as free,
    ):
        held = busy.stream(MODEL, images(), MODULE, batch_size=1)
        next(iter(held))
        with pytest.raises(TooManyCallsError, match="busy has 1 calls in progress") as refused:
            again.extract(MODEL, [("one", photos[1].read_bytes())], MODULE)
        assert (refused.value.retry_seconds, refused.value.subject) == (2.0, "busy")
        assert free.residency().models
        threading.Timer(1.0, going_on.set).start()
        waiting = threading.Thread(target=lambda: list(held))
        waiting.start()
        features = busy.extract(MODEL, [("one", photos[1].read_bytes())], MODULE).features
        assert features[MODULE].shape[0] == 1
        waiting.join(60)
    assert "Waiting, up to 10 minutes: busy has 1 calls in progress" in capsys.readouterr().err


def test_metrics_show_so_many_people_by_name_and_the_use_of_each(
    small_server: TestServer, lab: Lab, photos: list[Path]
) -> None:
    registry = small_server.running.metrics.registry

    def figure(name: str, person: str, **labels: str) -> float:
        sample = f"thingsvision_person_{name}"
        return registry.get_sample_value(sample, {"person": person, **labels}) or 0.0

    address = f"grpcs://{small_server.address}"
    # No other test has sent these bytes, which the server would have cached.
    images = [(str(place), photos[place].read_bytes() + b"metrics") for place in (0, 1)]
    before: dict[str, float] = {}
    for name, shown in (("busy", "busy"), ("unknown", "other"), ("free", "other")):
        token = lab.add_token(name, Scope.READ, Scope.EXTRACT)
        small_server.running.access.look()
        with Client(address, token=token, ca=lab.ca) as client:
            before = {one: figure(one, shown) for one in _COUNTED}
            client.extract(MODEL, images, MODULE)
            client.rdm(MODEL, images, MODULE)
        more = {one: figure(one, shown) - before[one] for one in _COUNTED}
        assert all(more[one] > 0 for one in _COUNTED), more
        assert more["images_total"] == 4
        images = [(name, content + name.encode()) for name, content in images]
        sent = sum(len(content) for _, content in images)
        assert 0.99 * sent <= more["received_bytes_total"] <= 1.01 * sent
    assert not figure("images_total", "free")
    assert figure("calls", "busy") == figure("queue_depth", "busy") == 0


def test_metrics_count_what_was_refused_by_reason(
    small_server: TestServer, lab: Lab, photos: list[Path]
) -> None:
    token = lab.add_token("busy", Scope.READ, Scope.EXTRACT)
    small_server.running.access.look()
    address, registry = f"grpcs://{small_server.address}", small_server.running.metrics.registry
    labels = {"person": "busy", "reason": "TooManyCallsError"}

    def refused() -> float:
        return registry.get_sample_value("thingsvision_person_refused_total", labels) or 0.0

    with Client(address, token=token, ca=lab.ca, timeout=1.0) as client:
        client.residency()
        before = refused()
        held = client.stream(MODEL, iter([("a", photos[0].read_bytes())] * 40), MODULE)
        next(iter(held))
        with pytest.raises(TooManyCallsError):
            client.extract(MODEL, [("one", photos[1].read_bytes())], MODULE)
        assert refused() > before
        assert client.residency().models, "short calls are counted apart"
        held.close()


def test_a_call_waits_until_the_persons_other_calls_hold_less(
    server: TestServer,
    photos: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server.running.extractor._in_flight, "most", Load(3, 2**40))
    images = [(f"image {place}", photos[place % 3].read_bytes()) for place in range(9)]
    with Client(server.address) as client, Client(server.address, timeout=1.0) as again:
        expected = client.extract(MODEL, images, MODULE, batch_size=2).features[MODULE]
        held = client.stream(MODEL, iter(images), MODULE, batch_size=2)
        first = next(iter(held))
        with pytest.raises(TooManyCallsError, match="--person-images") as refused:
            again.extract(MODEL, images, MODULE, batch_size=2)
        assert refused.value.retry_seconds == 2.0
        threading.Timer(1.0, held.close).start()
        features = client.extract(MODEL, images, MODULE, batch_size=2).features
    assert (features[MODULE] == expected).all()
    assert len(first[0]) > 0
    assert "calls of ipv4:127.0.0.1 hold" in capsys.readouterr().err


def test_checks_of_uploads_are_counted_and_take_turns(server: TestServer, tmp_path: Path) -> None:
    book, person = server.running.metrics.people, "ipv4:127.0.0.1"
    before = book.copy()[person].computation_seconds if person in book.copy() else 0.0
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save({"weight": np.arange(7, dtype=np.float32)}))
    with Client(server.address) as client:
        digest = client.upload_weights(path)
        assert any(one.sha256 == digest for one in client.uploads())
    assert book.copy()[person].computation_seconds > before

"""What people are told of a memory that others' models fill: never whose, nor which uploads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_0

from support.lab import Lab, bearer
from support.owned_calls import PASSES, header_of, sent
from support.owned_things import People, Thing, people_of
from support.serving import TestServer, serving
from support.stock_calls import Refusal, StockCaller, spec
from thingsvision_client import Client
from thingsvision_client.errors import ThingsvisionError
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_server import parts
from thingsvision_server.engine.models.budget import NoTemplates

ROOM = 3 * 4 * 1_248_424
"""Of three SqueezeNets."""
MODULE = "features.3"
LARGE = spec("mobilenet_v3_small", random_seed=0)
"""Takes the room of two SqueezeNets and a bit."""
TOO_LARGE = spec("alexnet", random_seed=0)
HIDDEN = "another's model"
KNOWING = ("owner", "admin")


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Iterator[TestServer]:
    """A server on which a call waits two seconds for memory."""
    settings: dict[str, Any] = {"wait_seconds": 2, "lease_seconds": 600, "device_memory": ROOM}
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        # All servers of this process share a template, with children of other tests' servers.
        patch.setattr(parts, "TemplateMemory", lambda _: NoTemplates())
        with serving(folder, drain_seconds=1, **settings, **lab.server_files) as running:
            yield running


@pytest.fixture(scope="module")
def people(
    lab: Lab, small_server: TestServer, tmp_path_factory: pytest.TempPathFactory, photos: list[Path]
) -> Iterator[People]:
    with people_of(lab, small_server, tmp_path_factory.mktemp("things"), photos) as found:
        yield found


@pytest.fixture(scope="module")
def thing(people: People) -> Thing:
    """Weights of the owner's, which nobody else may know of."""
    torch.manual_seed(5)
    path = people.folder / "secret.safetensors"
    save_file(squeezenet1_0().state_dict(), path)
    return Thing(people.owner.upload_weights(path), path.stat().st_size)


@contextmanager
def leased(client: Client, photos: list[Path], *models: str) -> Iterator[None]:
    """Let streams of a client use models as long as the context lasts."""
    over = threading.Event()

    def images() -> Iterator[tuple[str, bytes]]:
        yield "first", photos[0].read_bytes()
        over.wait(60)

    with ExitStack() as stack:
        stack.callback(over.set)
        for model in models:
            stream = client.stream(model, images(), MODULE, batch_size=1)
            stack.enter_context(closing(stream))
            next(stream)
        yield


def calls(photos: list[Path]) -> Mapping[str, list[Any]]:
    files = [path.read_bytes() for path in photos[:2]]
    passes = {
        method: PASSES[method](header_of(LARGE, MODULE), sent(files))
        for method in ("Extract", "ComputeRDM", "FitPCA")
    }
    return passes | {"LoadModel": [pb.LoadModelRequest(model=LARGE)]}


def test_who_waits_for_memory_learns_no_upload_of_others(
    lab: Lab, small_server: TestServer, people: People, thing: Thing, photos: list[Path]
) -> None:
    model = f"torchvision/squeezenet1_0@sha256:{thing.sha256}"

    def told(caller: StockCaller, person: str, method: str, messages: list[Any]) -> list[str]:
        """Return what a call that waits in vain is told: the reasons, then the error."""
        asked: Any = messages if method != "LoadModel" else messages[0]
        call = caller.start(method, asked, bearer(people.tokens[person]))
        reasons: list[str] = []
        with pytest.raises(grpc.RpcError):
            reasons.extend(
                one.reason if method == "LoadModel" else one.waiting.reason for one in call
            )
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, call.details()
        return [*filter(None, reasons), call.details(), str(call.trailing_metadata())]

    asked = calls(photos)
    with (
        lab.channel(small_server.address) as channel,
        leased(people.owner, photos, model, "torchvision/squeezenet1_0@random:1"),
        ThreadPoolExecutor(6) as threads,
    ):
        caller = StockCaller(channel)
        keys = [*(("stranger", method) for method in asked), *product(KNOWING, ["LoadModel"])]
        running = {
            (person, method): threads.submit(told, caller, person, method, asked[method])
            for person, method in keys
        }
        for (person, method), one in running.items():
            *reasons, sentence, trailers = one.result()
            assert reasons, method
            name = model if person in KNOWING else HIDDEN
            for text in (*reasons, sentence):
                assert f"{name} (1 request), torchvision/squeezenet1_0@random:1 (1" in text
            assert (thing.sha256 in f"{reasons}{sentence}{trailers}") is (person in KNOWING)


def test_errors_about_memory_name_no_upload_of_others(
    lab: Lab, small_server: TestServer, people: People, thing: Thing
) -> None:
    model = f"torchvision/squeezenet1_0@sha256:{thing.sha256}"
    absent = pb.UnloadModelRequest(model=spec("squeezenet1_0", random_seed=9))
    with lab.channel(small_server.address) as channel:
        caller = StockCaller(channel)

        def refused(person: str, method: str, request: Any) -> Refusal:
            return caller.refusal(method, request, bearer(people.tokens[person]))

        people.owner.pin(model)
        try:
            for method, request in (
                ("UnloadModel", absent),
                ("LoadModel", pb.LoadModelRequest(model=TOO_LARGE)),
            ):
                found = refused("stranger", method, request)
                assert HIDDEN in found.sentence
                assert thing.sha256 not in f"{found}"
                assert model in refused("owner", method, request).sentence
        finally:
            people.owner.pin(model, pinned=False)


def test_a_load_goes_on_for_others_when_who_began_it_may_not_use_it_any_more(
    small_server: TestServer,
    lab: Lab,
    people: People,
    thing: Thing,
    photos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(small_server.running.residency, "wait_seconds", 60.0)
    model = f"torchvision/squeezenet1_0@sha256:{thing.sha256}"
    people.owner.share(thing.sha256)
    address = f"grpcs://{small_server.address}"
    outcomes: dict[str, object] = {}

    def load(name: str, client: Client) -> None:
        try:
            outcomes[name] = client.load(model)
        except ThingsvisionError as error:
            outcomes[name] = error

    def waits(count: int) -> Callable[[], bool]:
        return lambda: any(one.request_count == count for one in people.owner.residency().waiting)

    others = [f"torchvision/squeezenet1_0@random:{seed}" for seed in (1, 2, 3)]
    with Client(address, token=people.tokens["sharee"], ca=lab.ca) as sharee:
        people.owner.unload(model)
        threads = [
            threading.Thread(target=load, args=("sharee", sharee)),
            threading.Thread(target=load, args=("owner", people.owner)),
        ]
        with leased(people.owner, photos, *others):
            for count, thread in enumerate(threads, 1):
                thread.start()
                until(waits(count))
            people.owner.unshare(thing.sha256)
        for thread in threads:
            thread.join()
    assert not [one for one in outcomes.values() if isinstance(one, Exception)], outcomes


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it has not come true")

"""What travels beside the messages: the model to route by, and the id of a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support.stock_calls import StockCaller, extraction, image, spec
from thingsvision_client import Client, Model
from thingsvision_client.errors import ThingsvisionError
from thingsvision_client.images.image import ImageContent
from thingsvision_client.rpc.image_cache import LoadedImage
from thingsvision_proto.v1 import thingsvision_pb2 as pb

MODEL = Model("torchvision", "squeezenet1_1", "random:0")
RPCS = {
    f"/{service.full_name}/{rpc.name}"
    for service in pb.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods
}


@pytest.fixture
def seen() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """A server that refuses every call, and the metadata of each call that reached it."""
    metadata: dict[str, dict[str, Any]] = {}
    address, stop, ready = "", threading.Event(), threading.Event()

    class Recorder(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            metadata[details.method] = dict(details.invocation_metadata)

    async def serve() -> None:
        nonlocal address
        server = grpc.aio.server(handlers=[Recorder()])
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        ready.set()
        await asyncio.to_thread(stop.wait)
        await server.stop(0)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    yield address, metadata
    stop.set()
    thread.join()


def test_the_client_names_the_model_in_every_call(
    seen: tuple[str, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    address, metadata = seen
    weights = tmp_path / "weights"
    weights.write_bytes(b"weights")
    images = [("a", b"a")]
    large = LoadedImage(0, "a", "encoded", ImageContent(bytes(300_000)))
    with Client(address) as client:
        calls: list[tuple[str, str, Callable[[], Any]]] = [
            ("ListModels", "*", client.models),
            ("ListModules", str(MODEL), lambda: client.modules(MODEL)),
            ("Extract", str(MODEL), lambda: client.extract(MODEL, images, "features")),
            ("Preprocess", str(MODEL), lambda: client.preprocess(MODEL, images)),
            ("ComputeRDM", str(MODEL), lambda: client.rdm(MODEL, images, "features")),
            ("ComputeRDM", "*", lambda: client.rdm_of(np.ones((2, 2)))),
            ("LoadModel", str(MODEL), lambda: client.load(MODEL)),
            ("UnloadModel", str(MODEL), lambda: client.unload(MODEL)),
            ("PinModel", str(MODEL), lambda: client.pin(MODEL)),
            ("GetResidency", "*", client.residency),
            ("UploadWeights", "*", lambda: client.upload_weights(weights)),
            ("ListUploads", "*", client.uploads),
            ("DeleteUpload", "*", lambda: client.delete_upload("0" * 64)),
            ("FitPCA", str(MODEL), lambda: client.fit_pca(MODEL, images, "features", components=1)),
            ("ListPCAs", "*", client.pcas),
            ("DeletePCA", "*", lambda: client.delete_pca("0" * 64)),
            ("Share", "*", lambda: client.share("0" * 64)),
            ("MoveOwner", "*", lambda: client.move_owner("a", "b")),
            ("ListImages", "*", client.server_images),
            ("ListCachedImages", "*", client.cached_images),
            ("DeleteCachedImages", "*", lambda: client.delete_cached_images(["0" * 64])),
            ("FindImages", "*", lambda: list(client._connection.image_cache.messages([large]))),
        ]
        for name, model_id, call in calls:
            metadata.clear()
            with suppress(ThingsvisionError):
                call()
            ((path, sent),) = metadata.items()
            assert path.endswith(f"/{name}")
            assert sent["x-model"] == model_id
            assert len(sent["x-request-id"]) == 32
        assert {name for name, _, _ in calls} == {path.rpartition("/")[2] for path in RPCS}


REQUESTS = {
    "ListModules": pb.ListModulesRequest(model=spec()),
    "Extract": [extraction("features")],
    "ComputeRDM": [
        pb.ComputeRDMRequest(
            header=pb.ComputeRDMHeader(
                metric=pb.METRIC_COSINE, extraction=extraction("features").header
            )
        )
    ],
    "FitPCA": [pb.FitPCARequest(header=pb.FitPCAHeader(extraction=extraction("features").header))],
    "LoadModel": pb.LoadModelRequest(model=spec()),
    "UnloadModel": pb.UnloadModelRequest(model=spec()),
    "PinModel": pb.PinModelRequest(model=spec(), pinned=True),
}


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize("routed_by", ["torchvision/squeezenet1_1@random:1", "*", "nonsense"])
def test_a_call_routed_by_another_model_is_refused(
    stock: StockCaller, method: str, routed_by: str
) -> None:
    refusal = stock.refusal(method, REQUESTS[method], (("x-model", routed_by),))
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "InvalidRequestError"
    assert repr(routed_by) in refusal.sentence
    assert "'torchvision/squeezenet1_1@random:0'" in refusal.sentence
    assert refusal.details["ErrorInfo"].metadata["field"] == "x-model"


@pytest.mark.parametrize(
    "metadata", [(), (("x-model", "torchvision/squeezenet1_1@random:0"),)], ids=["without", "with"]
)
def test_a_call_without_the_metadata_or_with_the_right_one_is_served(
    stock: StockCaller, metadata: Any, photos: list[Path]
) -> None:
    requests = [extraction("features.0"), image(0, "a", photos[0].read_bytes())]
    assert stock.call("Extract", requests, metadata)[-1].WhichOneof("part") == "trailer"
    listed = stock.call("ListModules", REQUESTS["ListModules"], metadata)
    assert len(listed) > 10


def test_a_request_id_comes_back(stock: StockCaller) -> None:
    given = (("x-request-id", "my-very-own-id"),)
    call = stock.start("ListModules", REQUESTS["ListModules"], given)
    list(call)
    assert dict(call.trailing_metadata())["x-request-id"] == "my-very-own-id"
    bad = pb.ListModulesRequest(model=spec("no_such_model"))
    assert stock.refusal("ListModules", bad, given).trailers["x-request-id"] == "my-very-own-id"


def test_a_call_without_an_id_gets_one(stock: StockCaller) -> None:
    ids = set()
    for _ in range(2):
        call = stock.start("GetResidency", pb.GetResidencyRequest())
        refusal = stock.refusal("ListModules", pb.ListModulesRequest())
        ids.add(refusal.trailers["x-request-id"])
        del call
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)


def test_an_exception_of_the_client_has_the_requests_id(client: Client) -> None:
    with pytest.raises(ThingsvisionError) as caught:
        client.modules("torchvision/no_such_model")
    assert len(caught.value.request_id) == 32
    assert caught.value.subject == "no_such_model"
    assert caught.value.field == "model.name"

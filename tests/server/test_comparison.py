"""ComputeRDM through the network: the same from images and features, in memory and on disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support.stock_calls import stock_calls
from thingsvision_client import Client
from thingsvision_client.errors import ExhaustedError, UndefinedDistanceWarning
from thingsvision_client.rpc.rdms import METRICS
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.wire import ColumnSpec, FeatureWriter

MODEL = "torchvision/squeezenet1_1@random:0"
MODULES = ["features.0", "features.12"]
FEATURES = {
    "wide": np.random.default_rng(0).normal(size=(40, 3_000)),
    "deep": np.random.default_rng(1).normal(5, 1, size=(40, 4, 25)).astype(np.float32),
}


@pytest.mark.parametrize("metric", METRICS)
def test_images_and_their_features_give_the_same(
    client: Client, photos: list[Path], metric: str
) -> None:
    """Fixed batches: then the features have the same bits both times, and so have the RDMs."""
    features = client.extract(MODEL, photos, MODULES, batch_size=1).features
    of_images = client.rdm(MODEL, photos, MODULES, metric=metric, dtype="float64", batch_size=1)
    of_features = client.rdm_of(features, metric=metric, dtype="float64")
    assert list(of_images.rdms) == list(of_features.rdms) == MODULES
    assert of_images.images == [str(path) for path in photos]
    assert of_images.metric == of_features.metric == metric
    assert of_images.arithmetic == of_features.arithmetic == dict.fromkeys(MODULES, "float64")
    assert of_images.provenance is not None
    assert of_features.provenance is None
    for module in MODULES:
        rdm = of_images.rdms[module]
        np.testing.assert_array_equal(rdm, of_features.rdms[module])
        np.testing.assert_array_equal(rdm, rdm.T)
        assert not np.diag(rdm).any()
        assert (rdm[np.triu_indices(len(photos), 1)] > 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_float32_is_the_rounded_float64(client: Client, metric: str) -> None:
    single = client.rdm_of(FEATURES, metric=metric)
    double = client.rdm_of(FEATURES, metric=metric, dtype="float64")
    for column in FEATURES:
        assert (single.rdms[column].dtype, double.rdms[column].dtype) == ("float32", "float64")
        rounded = double.rdms[column].astype("float32")
        np.testing.assert_array_equal(single.rdms[column], rounded)


@pytest.mark.parametrize(
    ("metric", "row"), [("correlation", np.full(30, 7.5)), ("cosine", np.zeros(30))]
)
def test_images_without_a_distance_are_named(client: Client, metric: str, row: Any) -> None:
    features = np.random.default_rng(0).normal(size=(6, 30))
    features[2] = row
    with pytest.warns(UndefinedDistanceWarning, match="c"):
        result = client.rdm_of(features, list("abcdef"), metric=metric)
    assert result.undefined == {"features": ["c"]}
    rdm = result.rdms["features"]
    undefined = np.isnan(rdm)
    assert undefined[2].sum() + undefined[:, 2].sum() >= 10
    assert not np.isnan(np.delete(np.delete(rdm, 2, 0), 2, 1)).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.rdm_of(features, metric="euclidean").undefined == {}


@pytest.mark.parametrize("metric", METRICS)
def test_spilled_features_give_the_same_bits(
    client: Client, start_server: Callable[..., Any], tmp_path: Path, metric: str
) -> None:
    expected = client.rdm_of(FEATURES, metric=metric, dtype="float64")
    spill = tmp_path / "spill"
    spill.mkdir()
    with start_server(rdm_features_memory=0, spill_dir=spill) as server:
        with Client(server.address) as other:
            found = other.rdm_of(FEATURES, metric=metric, dtype="float64")
        assert list(spill.iterdir()) == []
    for column in FEATURES:
        np.testing.assert_array_equal(found.rdms[column], expected.rdms[column])


def test_too_many_images_are_refused_with_the_figures(start_server: Callable[..., Any]) -> None:
    """Two RDMs and one in the making of 40 images, 8 bytes each: 38,400 bytes."""
    with start_server(rdm_memory=30_000) as server, Client(server.address) as client:
        with pytest.raises(ExhaustedError, match=r"38,400 bytes.* 30,000 .*at most 35 images"):
            client.rdm_of(FEATURES)
        fewer = {name: array[:35] for name, array in FEATURES.items()}
        assert client.rdm_of(fewer).rdms["wide"].shape == (35, 35)


def large_request(rows: int, values: int, release: Callable[[], None]) -> Iterator[Any]:
    yield pb.ComputeRDMRequest(header=pb.ComputeRDMHeader(metric=pb.METRIC_EUCLIDEAN))
    writer = FeatureWriter([ColumnSpec("x", (values,))])
    random = np.random.default_rng(0)
    index = 0
    for start in range(0, rows, 100):
        names = [str(start + i) for i in range(100)]
        for frame in writer.write(names, [random.random((100, values), np.float32)]):
            arrow_ipc = b"".join(frame)
            yield pb.ComputeRDMRequest(features=pb.ArrowFrame(index=index, arrow_ipc=arrow_ipc))
            index += 1
    for frame in writer.finish():
        arrow_ipc = b"".join(frame)
        yield pb.ComputeRDMRequest(features=pb.ArrowFrame(index=index, arrow_ipc=arrow_ipc))
        index += 1
    release()


def test_a_cancelled_comparison_stops(start_server: Callable[..., Any]) -> None:
    """5,000 images of 20,000 values: 40 s on a small machine, with progress about every second."""
    with start_server() as server, stock_calls(server.address) as stock:
        sent: list[bool] = []
        request = large_request(5_000, 20_000, lambda: sent.append(True))
        call = stock.start("ComputeRDM", request)
        for reply in call:
            if reply.progress.stage == pb.RDM_STAGE_COMPARING:
                break
        assert sent
        call.cancel()
        started = time.monotonic()
        handled = {"grpc_method": "ComputeRDM", "grpc_code": "CANCELLED"}
        handled |= {"grpc_service": "thingsvision.v1.FeatureService"}
        handled |= {"grpc_type": "stream_stream"}
        registry = server.running.metrics.registry
        while registry.get_sample_value("grpc_server_handled_total", handled) != 1:
            assert time.monotonic() - started < 60, "the comparison goes on"
            time.sleep(0.05)
        with Client(server.address) as client:
            assert client.rdm_of(FEATURES).rdms["wide"].shape == (40, 40)
        assert call.code() == grpc.StatusCode.CANCELLED

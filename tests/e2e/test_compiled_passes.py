"""Compiled passes by choice: close to the default, recorded, and refused if impossible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from support.closeness import assert_close
from support.saved_features import save_squeezenet
from support.serving import TestServer
from thingsvision_client import Client, errors, verify
from thingsvision_client.values.options import ExtractOptions
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceStub

MODEL = "torchvision/squeezenet1_0@random:0"
MODULES = ["features.3", "features.5"]


def test_compiled_features_are_close_to_the_default_for_any_size_of_the_last_batch(
    client: Client, photos: list[Path]
) -> None:
    usual = client.extract(MODEL, photos, MODULES, batch_size=2)
    for images in (photos, photos[:-1]):
        found = client.extract(MODEL, images, MODULES, batch_size=2, compiled=True)
        assert found.provenance.compiled
        assert json.loads(found.to_json())["compiled"] is True
        assert found.images == usual.images[: len(images)]
        for module in MODULES:
            expected = usual.features[module][: len(images)]
            assert_close(found.features[module], expected)
    assert not usual.provenance.compiled
    again = client.extract(MODEL, photos, MODULES, batch_size=2)
    for module in MODULES:
        np.testing.assert_array_equal(again.features[module], usual.features[module])


def test_the_same_request_gives_the_same_bits(client: Client, photos: list[Path]) -> None:
    ask: dict[str, Any] = {"batch_size": 2, "compiled": True}
    first = client.extract(MODEL, photos, MODULES[1], **ask).features[MODULES[1]]
    stream = client.stream(MODEL, photos, MODULES[1], **ask)
    rows = np.concatenate([part[MODULES[1]] for _, part in stream])
    np.testing.assert_array_equal(rows, first)
    rdms = client.rdm(MODEL, photos, MODULES[1], dtype="float64", **ask)
    assert rdms.provenance is not None
    assert rdms.provenance.compiled
    flat = first.reshape(len(first), -1)
    expected = client.rdm_of(flat, dtype="float64").rdms["features"]
    np.testing.assert_array_equal(rdms.rdms[MODULES[1]], expected)


def test_every_image_alone_is_compiled_too(client: Client, photos: list[Path]) -> None:
    ask: dict[str, Any] = {"deterministic": True, "compiled": True}
    together = client.extract(MODEL, photos, MODULES[1], **ask).features[MODULES[1]]
    backwards = client.extract(MODEL, photos[::-1], MODULES[1], **ask).features[MODULES[1]]
    np.testing.assert_array_equal(together, backwards[::-1])


@pytest.mark.parametrize(
    ("model", "module", "sentence"),
    [
        (
            MODEL,
            MODULES[0],
            "`batch_size` must be set for compiled passes, which have a fixed number of images",
        ),
        (
            "keras/MobileNet@random:0",
            "conv1",
            "keras/MobileNet@random:0 is not a PyTorch network, so it can't be compiled",
        ),
    ],
)
def test_a_network_that_cannot_be_compiled_is_refused(
    client: Client, photos: list[Path], model: str, module: str, sentence: str
) -> None:
    batch_size = None if model == MODEL else 2
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        client.extract(model, photos[:1], module, batch_size=batch_size, compiled=True)


def test_only_true_and_false_are_taken() -> None:
    with pytest.raises(errors.InvalidRequestError, match="`compiled` must be true or false, got 1"):
        ExtractOptions(compiled=1)  # type: ignore[arg-type]


def test_stock_stubs_ask_for_it(server: TestServer, photos: list[Path]) -> None:
    spec = pb.ModelSpec(source="torchvision", name="squeezenet1_0", random_seed=0)
    header = pb.ExtractHeader(model=spec, modules=MODULES[:1], batch_size=2, compiled=True)
    image = pb.Image(name="one", encoded=photos[0].read_bytes())
    requests = [pb.ExtractRequest(header=header), pb.ExtractRequest(image=image)]
    with grpc.insecure_channel(server.address) as channel:
        replies = list(FeatureServiceStub(channel).Extract(iter(requests)))
    assert replies[0].header.provenance.compiled
    assert replies[-1].trailer.image_count == 1


def test_files_tell_it_and_are_verified_with_it(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    chosen = {"compiled": True}
    path = save_squeezenet(server, photos, tmp_path, module=MODULES[0], parameters=chosen)
    told = json.loads((tmp_path / "features.npy.json").read_text())
    assert told["compiled"] is True
    assert told["choices"] == {"compiled": True}
    found = verify(path, server=server.address)
    assert [one.verdict for one in found.modules] == ["equal"]
    assert found.notes == ()

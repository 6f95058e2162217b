"""Features reduced or computed faster by choice: their values, their record, and refusals."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from sklearn.random_projection import SparseRandomProjection

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import (
    Client,
    DataLoader,
    ImageDataset,
    PreprocessingOverrides,
    errors,
    get_extractor,
    rsa,
    save_features,
)
from thingsvision_client.values.reductions import Reduction
from thingsvision_proto.v1 import thingsvision_pb2 as pb
from thingsvision_proto.v1.thingsvision_pb2_grpc import FeatureServiceStub

MODEL = "torchvision/squeezenet1_0@random:0"
MODULE = "features.5"
BATCH_SENSITIVE = "torchvision/mobilenet_v3_small@random:1", "classifier.0"
"""A module whose bits depend on the batch, even within a row: a linear layer after convolutions."""
SMALL = PreprocessingOverrides(resize=64, crop=64)


def extract(client: Client, images: Any, **options: Any) -> Any:
    return client.extract(MODEL, images, MODULE, batch_size=2, **options)


@pytest.fixture
def whole(client: Client, photos: list[Path]) -> np.ndarray:
    """Features without any reduction, images x 256 x 54 x 54."""
    return extract(client, photos).features[MODULE]


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_removes_the_axes_named(
    client: Client, photos: list[Path], whole: np.ndarray, pool: str
) -> None:
    result = extract(client, photos, reduction=Reduction(pool=pool, pool_axes=(1, 2)))
    expected = getattr(whole, pool)(axis=(2, 3))
    assert_close(result.features[MODULE], expected, 1e-6)
    assert result.provenance.reduction == {
        "pool": f"POOL_{pool.upper()}",
        "pool_axes": [1, 2],
    }


def test_units_come_in_the_order_asked_for(
    client: Client, photos: list[Path], whole: np.ndarray
) -> None:
    units = [7, 100_000, 3]
    found = extract(client, photos, reduction=Reduction(units=units)).features[MODULE]
    np.testing.assert_array_equal(found, whole.reshape(len(whole), -1)[:, units])


def test_a_projection_is_scikit_learns(
    client: Client, photos: list[Path], whole: np.ndarray
) -> None:
    reduction = Reduction(pool="mean", pool_axes=(2,), components=40, seed=3)
    found = extract(client, photos, reduction=reduction).features[MODULE]
    pooled = whole.mean(axis=3).reshape(len(whole), -1)
    expected = SparseRandomProjection(40, random_state=3).fit_transform(pooled)
    assert_close(found, expected)


def test_an_rdm_is_of_the_reduced_features(
    client: Client, photos: list[Path], whole: np.ndarray
) -> None:
    reduction = Reduction(pool="mean", pool_axes=(1, 2))
    rdms = client.rdm(MODEL, photos, MODULE, batch_size=2, reduction=reduction, dtype="float64")
    pooled = whole.astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(rdms.rdms[MODULE], 1 - np.corrcoef(pooled), atol=1e-6)


def test_float16_rounds_to_nearest_and_names_values_out_of_range(
    client: Client, photos: list[Path], whole: np.ndarray
) -> None:
    found = extract(client, photos, dtype="float16").features[MODULE]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, whole.astype(np.float16))
    huge = np.full((2, 3, 32, 32), 1e6, np.float32)
    with pytest.warns(UserWarning, match=r"[\d,]+ values are larger than float16 can hold"):
        lost = client.extract(MODEL, huge, "features.0", dtype="float16").features["features.0"]
    assert np.isinf(lost).any()


def test_bfloat16_is_near_and_named(client: Client, photos: list[Path], whole: np.ndarray) -> None:
    result = extract(client, photos, precision="bfloat16")
    assert result.provenance.precision == "bfloat16"
    error = np.abs(result.features[MODULE] - whole).max() / np.abs(whole).max()
    assert 0 < error < 0.05
    assert extract(client, photos).provenance.precision == "float32"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "tf32"}, "on cpu must be one of: float32, bfloat16.*; got tf32"),
        ({"precision": "int8"}, "`precision` must be one of float32, tf32, bfloat16, float16"),
        ({"dtype": "float64"}, "`dtype` must be one of float32, float16, got 'float64'"),
        ({"deterministic": True}, "`batch_size` must be 1 if `deterministic` is set .* got 2"),
        (
            {"reduction": Reduction(pool="mean", pool_axes=(1, 3))},
            r"`pool_axes` of module 'features.5' must be different numbers from 0 to 2 \(one "
            r"image's features are 256 x 54 x 54\), got \[1, 3\]",
        ),
        ({"reduction": Reduction(pool="mean")}, "must be given together"),
        ({"reduction": Reduction(units=[746_496])}, "has 746,496 units"),
        ({"reduction": Reduction(components=746_497)}, "must have 1 to 746,496 components"),
    ],
)
def test_impossible_reductions_are_refused(
    client: Client, photos: list[Path], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        extract(client, photos, **options)


def test_reductions_that_make_no_sense_are_refused_before_the_call() -> None:
    with pytest.raises(
        errors.InvalidRequestError, match=r"`pool` must be one of mean, max, got 'sum'"
    ):
        Reduction(pool="sum")
    with pytest.raises(errors.InvalidRequestError, match=r"must be from 0 to .*, got -1"):
        Reduction(units=[-1])
    with pytest.raises(errors.InvalidRequestError, match=r"must be from 1 .*, got 0"):
        Reduction(components=0)


@pytest.fixture
def thumbnails(photos: list[Path], tmp_path: Path) -> list[Path]:
    """The photographs, small: decoding takes longer than the forward pass otherwise."""
    found = [tmp_path / f"{photo.stem}.png" for photo in photos]
    for photo, small in zip(photos, found, strict=True):
        Image.open(photo).convert("RGB").resize((96, 80)).save(small)
    return found


def test_deterministic_features_do_not_depend_on_neighbours_place_or_load(
    server: TestServer, thumbnails: list[Path]
) -> None:
    """200 arrangements of images, two clients at once, one of them merging."""
    draw = random.Random(0)
    model, module = BATCH_SENSITIVE
    ask: Any = {"deterministic": True, "preprocessing": SMALL}
    with Client(server.address) as client:
        alone = {
            photo: client.extract(model, [photo], module, **ask).features[module][0]
            for photo in thumbnails
        }
        stop = threading.Event()
        noise = threading.Thread(target=_keep_busy, args=(server.address, thumbnails, stop))
        noise.start()
        try:
            for _ in range(200):
                chosen = draw.choices(thumbnails, k=draw.randint(1, 3))
                result = client.extract(model, chosen, module, **ask)
                assert result.provenance.deterministic
                for photo, row in zip(chosen, result.features[module], strict=True):
                    np.testing.assert_array_equal(row, alone[photo], err_msg=photo.name)
        finally:
            stop.set()
            noise.join()


def _keep_busy(address: str, photos: list[Path], stop: threading.Event) -> None:
    with Client(address) as client:
        while not stop.is_set():
            model, module = BATCH_SENSITIVE
            client.extract(model, photos, module, preprocessing=SMALL)


def test_the_library_chooses_by_model_parameters(
    server: TestServer, photos: list[Path], tmp_path: Path, whole: np.ndarray
) -> None:
    names = [photo.name for photo in photos]
    root = photos[0].parent
    parameters = {
        "precision": "bfloat16",
        "dtype": "float16",
        "reduction": {"pool": "mean", "pool_axes": [1, 2], "seed": 0},
    }
    extractor = get_extractor(
        "squeezenet1_0", False, "cpu", "torchvision",
        model_parameters=parameters, server=server.address,
    )  # fmt: skip
    batches = DataLoader(ImageDataset(root, tmp_path, "pt", file_names=names), 2, "pt")
    features = extractor.extract_features(batches, MODULE)
    assert features.dtype == np.float16
    assert_close(features, whole.mean(axis=(2, 3)), 0.02)
    save_features(features, tmp_path, "npy")
    told = json.loads((tmp_path / "features.npy.json").read_text())
    assert told["choices"] == parameters
    extractor.extract_features(batches, MODULE, output_dir=tmp_path, save_in_one_file=True)
    np.testing.assert_array_equal(np.load(tmp_path / MODULE / "features.npy"), features)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"precision": "half"}, "`precision` must be one of float32"),
        ({"deterministic": "yes"}, "`deterministic` must be true or false, got 'yes'"),
        (
            {"reduction": {"pooling": "mean"}},
            "`reduction` must be an object with fields among pool, pool_axes, units",
        ),
    ],
)
def test_parameters_that_choose_nothing_are_refused(
    server: TestServer, parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        get_extractor(
            "alexnet", False, "cpu", "torchvision",
            model_parameters=parameters, server=server.address,
        )  # fmt: skip


def test_commands_and_rsa_compute_as_model_parameters_say(
    server: TestServer, photos: list[Path], tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for photo in photos:
        shutil.copy(photo, root)
    reduction = {"pool": "mean", "pool_axes": [1, 2]}
    parameters = {"reduction": reduction, "precision": "bfloat16"}
    command = [
        str(Path(sys.executable).with_name("thingsvision-client")), "compute-rdm",
        "--model-name", "squeezenet1_0", "--source", "torchvision", "--no-pretrained",
        "--module-name", MODULE, "--image-root", str(root), "--out-path", str(tmp_path),
        "--batch-size", "2", "--server", server.address, "--model-parameters",
    ]  # fmt: skip
    subprocess.run([*command, json.dumps(parameters)], check=True)
    with Client(server.address) as client:
        asked = {"batch_size": 2, "precision": "bfloat16", "reduction": Reduction(**reduction)}
        expected = client.rdm(MODEL, root, MODULE, **asked).rdms[MODULE]
    np.testing.assert_array_equal(np.load(tmp_path / "rdm.npy"), expected)
    extractor = get_extractor(
        "squeezenet1_0", False, "cpu", "torchvision",
        model_parameters=parameters, server=server.address,
    )  # fmt: skip
    loader = DataLoader(ImageDataset(root, tmp_path, "pt"), 2, "pt")
    found = rsa(loader, np.asarray(expected, np.float64), extractor, [MODULE], bootstrap=0)
    np.testing.assert_allclose(found.rdms.rdms[MODULE], expected, rtol=1e-6)
    refused = subprocess.run([*command, '{"dtype": "float16"}'], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "RDMs and PCAs are computed on the server in float32" in refused.stderr


def test_a_stream_names_values_out_of_range_of_float16(client: Client) -> None:
    huge = np.full((2, 3, 32, 32), 1e6, np.float32)
    stream = client.stream(MODEL, huge, "features.0", dtype="float16")
    with pytest.warns(UserWarning, match=r"[\d,]+ values are larger than float16 can hold"):
        rows = [batch["features.0"] for _, batch in stream]
    assert np.isinf(np.concatenate(rows)).any()


def test_features_for_rdms_are_float32(server: TestServer, photos: list[Path]) -> None:
    spec = pb.ModelSpec(source="torchvision", name="squeezenet1_0", random_seed=0)
    header = pb.ComputeRDMHeader(
        metric=pb.METRIC_COSINE,
        extraction=pb.ExtractHeader(
            model=spec, modules=[MODULE], element_type=pb.ELEMENT_TYPE_FLOAT16
        ),
    )
    image = pb.Image(name="x", encoded=photos[0].read_bytes())
    requests = [pb.ComputeRDMRequest(header=header), pb.ComputeRDMRequest(image=image)]
    with (
        grpc.insecure_channel(server.address) as channel,
        pytest.raises(grpc.RpcError, match="`element_type` must be FLOAT32 here, got float16"),
    ):
        list(FeatureServiceStub(channel).ComputeRDM(iter(requests)))

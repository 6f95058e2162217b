"""PCAs fitted on the server: equal to scikit-learn's, recorded, refused for other features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import decomposition

from support.serving import TestServer
from support.tiny_pcas import COUNT, MODEL, MODULE, MODULES, NAME, SMALL, extract, fit
from thingsvision_client import (
    Client,
    PreprocessingOverrides,
    Reduction,
    errors,
)
from thingsvision_client.images.folder import image_names
from thingsvision_client.values.pca import PCA

POOL = Reduction(pool="mean", pool_axes=(1, 2))


@pytest.fixture(scope="module")
def fitted(server: TestServer, folder: Path) -> Iterator[PCA]:
    """A PCA of two modules with five components."""
    with Client(server.address) as client:
        yield fit(client, folder)
        for one in client.pcas():
            client.delete_pca(one.sha256)


def flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1).astype(np.float64)


def check_scores(found: np.ndarray, features: np.ndarray, pca: decomposition.PCA) -> None:
    expected = pca.transform(flat(features))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("before", "count"),
    [(None, COUNT - 1), (Reduction(units=range(0, 12_000, 500)), 10), (POOL, 7)],
    ids=["fewer images than values", "fewer values than images", "pooled"],
)
def test_a_pca_is_scikit_learns(
    client: Client, folder: Path, photos: list[Path], before: Reduction | None, count: int
) -> None:
    name = f"tiny, {count}"
    pca = fit(client, folder, components=count, reduction=before, name=name)
    whole = extract(client, folder, reduction=before).features
    other = extract(client, photos, reduction=before).features
    by_pca = replace(before or Reduction(), pca=name)
    scores = extract(client, folder, reduction=by_pca).features
    others = extract(client, photos, reduction=by_pca).features
    assert [module.name for module in pca.modules] == list(MODULES)
    for module in pca.modules:
        reference = decomposition.PCA(count, svd_solver="full").fit(flat(whole[module.name]))
        check_scores(scores[module.name], whole[module.name], reference)
        check_scores(others[module.name], other[module.name], reference)
        np.testing.assert_allclose(
            module.explained_variance, reference.explained_variance_, rtol=1e-6
        )
        np.testing.assert_allclose(
            pca.explained_variance_ratio[module.name],
            reference.explained_variance_ratio_,
            rtol=1e-6,
        )
        assert module.shape == whole[module.name].shape[1:]
        assert module.arithmetic == "float64"


def test_a_pca_says_what_it_was_fitted_on(client: Client, folder: Path, fitted: PCA) -> None:
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in image_names(folder)
    ]
    provenance = extract(client, folder, MODULE).provenance
    assert fitted.images_sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (fitted.image_count, fitted.component_count, fitted.name) == (COUNT, 5, NAME)
    assert (fitted.model_id, fitted.batch_size, fitted.reduction) == (MODEL, 8, None)
    assert fitted.token_extraction == ""
    same = (
        "model_sha256",
        "preprocessing",
        "precision",
        "memory_format",
        "compiled",
        "device",
        "framework",
    )
    for field in same:
        assert getattr(fitted, field) == getattr(provenance, field)
    assert fitted.provenance.cores == provenance.cores
    assert fitted in client.pcas()


def test_a_reply_names_its_pca(client: Client, folder: Path, fitted: PCA) -> None:
    for named in (fitted.sha256, fitted.name):
        result = extract(client, folder, MODULE, reduction=Reduction(pca=named))
        told = result.provenance
        assert told.reduction == {"pca": fitted.sha256}
        assert vars(told.pca) == {
            "sha256": fitted.sha256,
            "name": NAME,
            "component_count": 5,
            "image_count": COUNT,
            "images_sha256": fitted.images_sha256,
        }
        assert json.loads(result.to_json())["pca"]["sha256"] == fitted.sha256
    assert extract(client, folder, MODULE).provenance.pca is None


def test_streams_and_rdms_are_of_the_scores(client: Client, folder: Path, fitted: PCA) -> None:
    reduction = Reduction(pca=fitted.sha256)
    scores = extract(client, folder, MODULE, reduction=reduction).features[MODULE]
    options = {"batch_size": 8, "preprocessing": SMALL, "reduction": reduction}
    with_stream = client.stream(MODEL, folder, MODULE, **options)
    np.testing.assert_array_equal(np.concatenate([r[MODULE] for _, r in with_stream]), scores)
    rdms = client.rdm(MODEL, folder, MODULE, dtype="float64", **options)
    np.testing.assert_allclose(rdms.rdms[MODULE], 1 - np.corrcoef(scores.astype(float)), atol=1e-6)
    assert rdms.provenance is not None
    assert (
        rdms.provenance.pca == extract(client, folder, MODULE, reduction=reduction).provenance.pca
    )
    half = extract(client, folder, MODULE, reduction=reduction, dtype="float16").features[MODULE]
    np.testing.assert_array_equal(half, scores.astype(np.float16))


def test_the_same_call_finds_the_existing_pca(client: Client, folder: Path, fitted: PCA) -> None:
    count = len(client.pcas())
    assert fit(client, folder) == fitted
    assert fit(client, folder, batch_size=None).sha256 == fitted.sha256
    assert len(client.pcas()) == count


@pytest.mark.parametrize(
    ("options", "images", "sentence"),
    [
        ({"components": 4}, slice(None), "its components are 5, not 4"),
        ({"modules": "features.5"}, slice(None), "its modules are .*, not .'features.5'."),
        ({}, slice(1, None), r"its images are 30 with SHA-256 \w+, not 29 with SHA-256"),
    ],
)
def test_a_name_is_of_one_set_of_images(
    client: Client, folder: Path, fitted: PCA, options: Any, images: slice, sentence: str
) -> None:
    chosen = [(name, (folder / name).read_bytes()) for name in image_names(folder)[images]]
    with pytest.raises(errors.InvalidRequestError, match=sentence) as caught:
        fit(client, chosen, **options)
    assert fitted.sha256 in str(caught.value)
    assert caught.value.subject == NAME


REFUSALS = {
    "model": (
        {"model": "torchvision/squeezenet1_0@random:1"},
        r"model was torchvision/squeezenet1_0@random:0 \(SHA-256 \w{64}\) and is "
        r"torchvision/squeezenet1_0@random:1 \(SHA-256 \w{64}\) here",
    ),
    "module": (
        {"modules": ["features.3", "features.7"]},
        "module was 'features.3', 'features.5' and is 'features.7' here",
    ),
    "preprocessing": (
        {"preprocessing": PreprocessingOverrides(resize=70, crop=64)},
        r"preprocessing.resize_pixels was \(64,\) and is \(70,\) here",
    ),
    "size": (
        {"preprocessing": PreprocessingOverrides(resize=64, crop=63)},
        r"crop_pixels was \(64, 64\) and is \(63, 63\) here",
    ),
    "precision": ({"precision": "bfloat16"}, "precision was float32 and is bfloat16 here"),
    "memory_format": (
        {"memory_format": "channels_last"},
        "memory_format was contiguous and is channels_last here",
    ),
    "compiled": ({"compiled": True, "batch_size": 8}, "compiled was False and is True here"),
    "pool": ({"reduction": replace(POOL, pca=NAME)}, "reduction.pool was none and is mean here"),
    "units": (
        {"reduction": Reduction(units=range(5), pca=NAME)},
        r"reduction.units was none and is \(0, 1, 2, 3, 4\) here",
    ),
    "projection": (
        {"reduction": Reduction(components=9, seed=3, pca=NAME)},
        r"reduction.projection was none and is .*'component_count': 9, 'seed': 3",
    ),
}


@pytest.mark.parametrize(("options", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_other_features_are_refused_with_both_values(
    client: Client, folder: Path, fitted: PCA, options: Any, sentence: str
) -> None:
    chosen = {"preprocessing": SMALL, "reduction": Reduction(pca=NAME), "modules": MODULE}
    chosen |= {"model": MODEL, "images": folder} | options
    for method in (client.extract, client.rdm):
        with pytest.raises(errors.PCAMismatchError, match=sentence) as caught:
            method(**chosen)
        assert f"PCA '{NAME}' ({fitted.sha256}) does not fit these features" in str(caught.value)
        assert "preprocessing=extractor.changes" in str(caught.value)


def test_tensors_are_other_features(client: Client, fitted: PCA) -> None:
    inputs = np.zeros((2, 3, 64, 64), np.float32)
    with pytest.raises(errors.PCAMismatchError, match="and is none: float32 tensors"):
        client.extract(MODEL, inputs, MODULE, reduction=Reduction(pca=fitted.sha256))


def test_a_pca_records_its_token_extraction(client: Client, photos: list[Path]) -> None:
    model, module = "timm/vit_tiny_patch16_224@random:0", "norm"
    pca = client.fit_pca(
        model, photos, module, components=2, token_extraction="cls_token", name="tokens"
    )
    assert pca.token_extraction == "cls_token"
    by_pca = Reduction(pca="tokens")
    found = client.extract(model, photos, module, token_extraction="cls_token", reduction=by_pca)
    assert found.features[module].shape == (len(photos), 2)
    with pytest.raises(errors.PCAMismatchError, match="was cls_token and is avg_pool here"):
        client.extract(model, photos, module, token_extraction="avg_pool", reduction=by_pca)
    client.delete_pca(pca.sha256)


def test_one_name_stands_for_a_pca_of_each_model(client: Client, folder: Path, fitted: PCA) -> None:
    model = "torchvision/squeezenet1_1@random:0"
    options: dict[str, Any] = {"batch_size": 8, "preprocessing": SMALL}
    other = client.fit_pca(model, folder, MODULE, components=3, name=NAME, **options)
    for one, sha256 in ((model, other.sha256), (MODEL, fitted.sha256)):
        result = client.extract(one, folder, MODULE, reduction=Reduction(pca=NAME), **options)
        assert result.provenance.pca.sha256 == sha256  # type: ignore[union-attr]
    with pytest.raises(errors.InvalidRequestError, match="2 PCAs are called 'tiny-30'; name one"):
        client.delete_pca(NAME)
    assert client.delete_pca(other.sha256) == other.size_bytes
    assert other not in client.pcas()


def test_an_unknown_pca_is_refused_with_near_names(
    client: Client, folder: Path, fitted: PCA
) -> None:
    with pytest.raises(errors.UnknownPCAError, match=r"no PCA 'tiny-3O'\. Did you mean 'tiny-30'"):
        extract(client, folder, reduction=Reduction(pca="tiny-3O"))
    with pytest.raises(errors.UnknownPCAError, match="no PCA 'nothing'"):
        client.delete_pca("nothing")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"components": COUNT}, "a PCA of 30 images must have at most 29 components"),
        (
            {"components": 129, "reduction": POOL},
            "a PCA of module 'features.3' must have 1 to 128 components .* got 129",
        ),
        ({"components": 0}, "`components` must be at least 1, got 0"),
        ({"name": "0" * 64}, "at most 200 characters, not a SHA-256; got '000"),
        ({"name": "two\nlines"}, "a PCA's name must be a line"),
        ({"reduction": Reduction(pca=NAME)}, "not on scores of another PCA"),
    ],
)
def test_a_pca_that_cannot_be_fitted_is_refused(
    client: Client, folder: Path, fitted: PCA, options: Any, sentence: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=sentence):
        fit(client, folder, **({"name": "other"} | options))


def test_reductions_name_a_pca_by_a_text() -> None:
    for wrong, sentence in (("", "must be the SHA-256 or the name"), (3, "must be a text")):
        with pytest.raises(errors.InvalidRequestError, match=f"`pca` {sentence}"):
            Reduction(pca=wrong)  # type: ignore[arg-type]


def test_more_components_than_directions_are_refused(client: Client) -> None:
    images = np.repeat(np.random.default_rng(0).random((3, 3, 64, 64), np.float32), 2, axis=0)
    with pytest.raises(
        errors.InvalidRequestError, match=r"over these 6 images, .* in only 2 directions"
    ):
        client.fit_pca(MODEL, images, MODULE, components=3, deterministic=True)


def test_an_image_that_spoils_the_axes_is_named(client: Client) -> None:
    images = [(f"image {i}", np.full((3, 32, 32), i, np.float32)) for i in range(4)]
    images[2][1][:] = np.finfo(np.float32).max  # sums of it are infinite
    with pytest.raises(errors.InvalidRequestError, match="image 'image 2' has NaN or infinite"):
        client.fit_pca(MODEL, images, "features.0", components=1)

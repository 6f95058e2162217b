"""CKA and the preparation of features for it, against independent references."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from thingsvision_client import (
    Client,
    center_features,
    compress_features,
    get_cka,
    normalize_features,
)
from thingsvision_client.core.cka import CKA, KERNELS
from thingsvision_client.errors import InvalidRequestError, UndefinedDistanceWarning

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(12, 40)), RNG.normal(size=(12, 7)) ** 3


def gram(features: np.ndarray, kernel: str, sigma: float | None) -> np.ndarray:
    """A Gram matrix entry by entry, in plain Python."""
    count = len(features)
    squares = [
        [sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in features] for x in features
    ]
    if kernel == "linear":
        return np.array([[float(np.dot(x, y)) for y in features] for x in features])
    width = sigma or np.sqrt(np.median([d for row in squares for d in row if d > 0]))
    return np.array(
        [[np.exp(-squares[i][j] / (2 * width**2)) for j in range(count)] for i in range(count)]
    )


def biased(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741 - the paper's letters
    """trace(K H L H), with H written out."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ l @ h))


def unbiased(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Song et al. 2012, equation 5, without U-centring (but for a constant factor)."""
    n, ones = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    return float(
        np.trace(k @ l)
        + (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
        - 2 * (ones @ k @ l @ ones) / (n - 2)
    )


@pytest.mark.parametrize(
    ("kernel", "sigma", "is_unbiased"),
    [(kernel, sigma, flag) for kernel, sigma, flag in product(KERNELS, (None, 2.5), (False, True))],
)
def test_scores_follow_the_formulas(kernel: str, sigma: float | None, is_unbiased: bool) -> None:
    hsic = unbiased if is_unbiased else biased
    k, l = gram(X, kernel, sigma), gram(Y, kernel, sigma)  # noqa: E741
    expected = hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))
    for backend in ("numpy", "torch"):
        cka = get_cka(backend, 12, kernel, is_unbiased, sigma, device="cpu")
        assert cka.compare(X=X, Y=Y) == pytest.approx(expected, rel=1e-10)
        assert cka.compare(X, X) == pytest.approx(1.0)


def test_rotated_and_scaled_features_are_the_same_to_the_linear_kernel() -> None:
    rotation = np.linalg.qr(RNG.normal(size=(40, 40)))[0]
    assert get_cka("numpy", m=12).compare(X, 3 * X @ rotation + 5) == pytest.approx(1.0)


def test_tensors_are_taken_also_with_gradients() -> None:
    cka = CKA(m=12, kernel="linear")
    tensor = torch.from_numpy(X).requires_grad_()
    assert cka.compare(tensor, torch.from_numpy(Y)) == cka.compare(X, Y)
    half = torch.from_numpy(X).bfloat16()
    assert cka.compare(half, Y) == cka.compare(half.float().numpy(), Y)


def test_a_space_without_variance_has_no_score() -> None:
    assert np.isnan(get_cka("numpy", 12).compare(X, np.ones((12, 3))))
    assert np.isnan(get_cka("numpy", 12, "rbf", sigma=None).compare(X, np.ones((12, 3))))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"backend": "jax", "m": 5}, "one of numpy, torch, got 'jax'"),
        ({"backend": "numpy", "m": 5, "kernel": "cosine"}, "one of linear, rbf, got 'cosine'"),
        ({"backend": "numpy", "m": 5, "sigma": 0.0}, "greater than 0"),
        ({"backend": "numpy", "m": 3, "unbiased": True}, "at least 4 images, got 3"),
    ],
)
def test_what_can_not_be_is_refused(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        get_cka(**arguments)  # type: ignore[arg-type]


def test_features_are_of_m_images() -> None:
    with pytest.raises(InvalidRequestError, match=r"Y must be 12 images \(m\).*\(11, 7\)"):
        get_cka("numpy", 12).compare(X, Y[1:])
    with pytest.raises(InvalidRequestError, match=r"X must be 12 images.*reshape"):
        get_cka("numpy", 12).compare(X.reshape(12, 8, 5), Y)


def test_the_published_numbers_of_two_layers(client: Client, shared_data: Path) -> None:
    """THINGSvision's own values of trained SqueezeNet's two layers on 92 objects."""
    weights = client.upload_weights(shared_data / "squeezenet1_0-imagenet.pth")
    features = client.extract(
        f"torchvision/squeezenet1_0@sha256:{weights}",
        shared_data / "rsa92" / "stimuli",
        ["classifier.3", "features.12"],
        batch_size=32,
        flatten=True,
    ).features
    scores = [
        get_cka("numpy", 92, kernel, is_unbiased, None).compare(*features.values())
        for kernel in ("linear", "rbf")
        for is_unbiased in (False, True)
    ]
    np.testing.assert_allclose(scores, [0.49594, 0.45997, 0.61112, 0.58320], atol=2e-5)


# ---------------------------------------------------------------- features, made new


def test_centred_features_have_no_mean_and_the_given_ones_stay() -> None:
    given = (X + 3).astype(np.float32).reshape(12, 8, 5)
    before = given.copy()
    centred = center_features(given)
    assert (centred.dtype, centred.shape) == (np.float32, (12, 8, 5))
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(centred - centred[0], given - given[0], atol=1e-5)
    np.testing.assert_array_equal(given, before)


def test_normalised_rows_have_length_one_and_their_direction() -> None:
    unit = normalize_features(X)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1)
    np.testing.assert_allclose(unit * np.linalg.norm(X, axis=1)[:, None], X)
    with pytest.warns(UndefinedDistanceWarning, match=r"Rows \[1\]"):
        withzero = normalize_features(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(withzero, [[0.6, 0.8], [np.nan, np.nan]])
    with pytest.raises(InvalidRequestError, match="flatten"):
        normalize_features(X.reshape(12, 8, 5))


@pytest.mark.parametrize("retained", [0.3, 0.9, 0.999])
def test_compressed_features_are_the_principal_components(retained: float) -> None:
    expected = PCA(n_components=retained, svd_solver="full").fit_transform(X)
    found = compress_features(X, rnd_seed=42, retained_var=retained)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert compress_features(X.astype(np.float32), 1).dtype == np.float32
    with pytest.raises(InvalidRequestError, match=r"retained_var.*1\.5"):
        compress_features(X, 0, 1.5)
    with pytest.raises(InvalidRequestError, match="no variance"):
        compress_features(np.ones((4, 3)), 0)


def test_the_librarys_path_has_them_too() -> None:
    from thingsvision_client.core import extraction

    assert extraction.center_features is center_features
    assert extraction.get_extractor.__name__ == "get_extractor"
    assert extraction.get_extractor_from_model.__name__ == "get_extractor_from_model"
    assert "torch" in sys.modules  # of this test, not of the client: test_import checks that
    with pytest.raises(AttributeError, match="nonsense"):
        extraction.nonsense  # noqa: B018

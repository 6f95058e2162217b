"""Alignment: the formula, where transforms are searched for, and which are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import Model, get_extractor
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.library.alignment import align, find_transform, read_transform

RNG = np.random.default_rng(11)
FEATURES = RNG.normal(3, 2, (7, 5)).astype(np.float32)
MEAN, STD = RNG.normal(size=5), RNG.uniform(1, 2, 5)
WEIGHTS, BIAS = RNG.normal(size=(5, 4)), RNG.normal(size=4)

CLIP = Model("custom", "clip/ViT-L-14")


def aligned(bias: bool = True) -> np.ndarray:
    """The affine map of each z-scored row, sum by sum."""
    rows = []
    for row in FEATURES:
        scores = [(value - m) / s for value, m, s in zip(row, MEAN, STD, strict=True)]
        sums = [sum(z * w for z, w in zip(scores, column, strict=True)) for column in WEIGHTS.T]
        rows.append([total + bias * b for total, b in zip(sums, BIAS, strict=True)])
    return np.array(rows)


@pytest.fixture
def transform(tmp_path: Path) -> Path:
    path = tmp_path / "transform.npz"
    np.savez(path, mean=MEAN, std=STD, weights=WEIGHTS, bias=BIAS)
    return path


def test_features_are_scored_and_mapped(transform: Path, tmp_path: Path) -> None:
    found = align(FEATURES, CLIP, "visual", transform=transform)
    np.testing.assert_allclose(found, aligned())
    tensor = align(torch.from_numpy(FEATURES), CLIP, "visual", transform=str(transform))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), aligned())
    np.savez(tmp_path / "plain.npz", mean=MEAN, std=STD, weights=WEIGHTS)
    found = align(FEATURES, CLIP, "visual", transform=tmp_path / "plain.npz")
    np.testing.assert_allclose(found, aligned(bias=False))


def test_one_mean_and_std_may_stand_for_all_units(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", mean=np.float32(3), std=np.array([2.0]), weights=WEIGHTS)
    found = align(FEATURES, CLIP, "visual", transform=tmp_path / "t.npz")
    np.testing.assert_allclose(found, (FEATURES - 3) / 2 @ WEIGHTS)


def test_transforms_lie_in_a_folder_of_their_own(
    transform: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINGSVISION_TRANSFORMS_DIR", str(tmp_path / "transforms"))
    place = tmp_path / "transforms/gLocal/custom/clip/ViT-L-14/visual.npz"
    place.parent.mkdir(parents=True)
    place.write_bytes(transform.read_bytes())
    assert find_transform(CLIP, "visual", "gLocal") == place
    tagged = Model("custom", "clip/ViT-L-14", "openai")
    assert find_transform(tagged, "visual", "gLocal") == place
    own = place.parent.with_name("ViT-L-14@openai") / "visual.npz"
    own.parent.mkdir()
    own.write_bytes(transform.read_bytes())
    assert find_transform(tagged, "visual", "gLocal") == own
    with pytest.raises(InvalidRequestError, match="no other transform for 'visual'"):
        find_transform(CLIP, "visual", "other")


def test_the_home_folder_is_looked_at_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THINGSVISION_TRANSFORMS_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    expected = tmp_path / ".cache/thingsvision/transforms/gLocal/keras/VGG16/block%2Ffc.npz"
    with pytest.raises(InvalidRequestError) as caught:
        align(FEATURES, Model("keras", "VGG16"), "block/fc")
    for part in (str(expected), "gLocal transform for 'block/fc' of keras/VGG16", "transform=FILE"):
        assert part in str(caught.value)


def test_what_does_not_fit_is_refused(transform: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"must be images x 5, got \(7, 4\)"):
        align(FEATURES[:, :4], CLIP, "visual", transform=transform)
    with pytest.raises(InvalidRequestError, match="flattened"):
        align(FEATURES[:, :, None], CLIP, "visual", transform=transform)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"mean": MEAN, "std": STD}, "it lacks weights; it has mean, std"),
        ({"mean": MEAN[:4], "std": STD, "weights": WEIGHTS}, "bias must match"),
        ({"mean": MEAN, "std": STD, "weights": WEIGHTS, "bias": MEAN}, "bias must match"),
        ({"mean": MEAN, "std": STD * 0, "weights": WEIGHTS}, "`std` must be finite and not zero"),
        ({"mean": MEAN, "std": STD, "weights": WEIGHTS[:, 0]}, "bias must match"),
    ],
)
def test_broken_transforms_are_refused(
    arrays: dict[str, np.ndarray], sentence: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(
        InvalidRequestError, match=rf"t\.npz does not contain a transform: .*{sentence}"
    ):
        read_transform(tmp_path / "t.npz")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickled.npz", mean=np.array([{}], dtype=object))
    np.save(tmp_path / "alone.npy", MEAN)
    (tmp_path / "text.npz").write_text("text")
    for name in ("pickled.npz", "alone.npy", "text.npz", "missing.npz"):
        with pytest.raises(InvalidRequestError, match=f"{name} is not a readable .npz file"):
            read_transform(tmp_path / name)


def test_an_extractor_aligns_its_features(server: TestServer, tmp_path: Path) -> None:
    extractor = get_extractor("squeezenet1_0", False, "cpu", "torchvision", server=server.address)
    inputs = RNG.normal(size=(2, 3, 64, 64)).astype(np.float32)
    features = extractor.extract_batch(inputs, "features.12", flatten_acts=True)
    weights = RNG.normal(size=(features.shape[1], 3)).astype(np.float32)
    path = tmp_path / "t.npz"
    np.savez(path, mean=np.float32(0.5), std=np.float32(2), weights=weights)
    found = extractor.align(
        features=features, module_name="features.12", alignment_type="gLocal", transform=path
    )
    assert_close(found, (features - 0.5) / 2 @ weights)
    assert found.dtype == np.float32

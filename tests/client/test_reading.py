"""Features are read back from every file that they can be in, with names, targets, provenance."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from support.closeness import assert_close
from support.serving import TestServer
from thingsvision_client import (
    Client,
    Extractor,
    ImageDataset,
    Provenance,
    get_extractor,
    load_batches,
    load_features,
    origin_of,
    save_features,
    split_features,
)
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.formats import FORMATS
from thingsvision_client.utils.storing import save_targets, store_features

MODEL = "torchvision/squeezenet1_0@random:0"
MODULES = ["features.3", "classifier.1"]
ROWS = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")


@dataclass(frozen=True)
class Saved:
    """Features of two modules, and what is known of them."""

    features: dict[str, Any]
    images: list[str]
    provenance: Provenance


@pytest.fixture(scope="module")
def extraction(
    server: TestServer, photos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Saved:
    names = sorted(photo.name for photo in photos[:3])
    batches = load_batches(
        photos[0].parent, tmp_path_factory.mktemp("names"), "pt", 2, file_names=names
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THINGSVISION_SERVER", server.address)
        extractor = get_extractor("squeezenet1_0", False, None, "torchvision")
        rows = extractor.extract_features(batches, module_names=MODULES, flatten_acts=True)
    origin = origin_of(rows["features.3"])
    assert origin is not None
    return Saved(rows, names, Provenance.from_dict(origin))


@pytest.fixture
def extractor(client: Client, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    monkeypatch.setenv("THINGSVISION_SERVER", client.server)
    return get_extractor("squeezenet1_0", pretrained=False, device=None, source="torchvision")


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """Photographs in class folders."""
    for number, photo in enumerate(photos[:3]):
        home = tmp_path / "images" / ("cats" if number else "dogs")
        home.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, home / photo.name)
    return tmp_path / "images"


@pytest.mark.parametrize("pieces", [0, 2])
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_is_read_back(
    file_format: str, pieces: int, extraction: Saved, tmp_path: Path
) -> None:
    rows = extraction.features["features.3"]
    if pieces:
        split_features(tmp_path, rows, file_format, pieces)
    else:
        save_features(rows, tmp_path, file_format)
    loaded = load_features(tmp_path)
    np.testing.assert_allclose(loaded.array, rows, rtol=1e-6)
    assert loaded.array.shape == rows.shape
    assert loaded.names == extraction.images
    assert loaded.provenance == extraction.provenance
    assert list(loaded.features) == ["features.3"]
    assert len(loaded) == 3
    if not pieces:
        (file,) = (one for one in tmp_path.iterdir() if one.suffix != ".json")
        np.testing.assert_array_equal(load_features(str(file)).array, loaded.array)


@pytest.mark.parametrize("pieces", [0, 2])
@pytest.mark.parametrize("file_format", ["npz", "hdf5", "mat", "pt", "parquet", "npy"])
def test_several_modules_are_read_back(
    file_format: str, pieces: int, extraction: Saved, tmp_path: Path
) -> None:
    if file_format == "npy" and not pieces:
        return  # holds one array
    if pieces:
        split_features(tmp_path, extraction.features, file_format, pieces)
    else:
        save_features(extraction.features, tmp_path, file_format)
    loaded = load_features(tmp_path)
    assert list(loaded.features) == MODULES
    for module, rows in extraction.features.items():
        np.testing.assert_array_equal(loaded.features[module], rows)
    assert loaded.names == extraction.images
    assert loaded.provenance == extraction.provenance
    with pytest.raises(InvalidRequestError, match=r"several arrays: name one, .*'features.3'"):
        _ = loaded.array


def test_a_mat_file_with_a_variable_per_image_is_read(extraction: Saved, tmp_path: Path) -> None:
    rows = extraction.features["features.3"]
    store_features(tmp_path, rows, "mat")
    np.testing.assert_array_equal(load_features(tmp_path).array, rows)
    assert load_features(tmp_path).names == extraction.images


@pytest.mark.parametrize("in_one_file", [False, True])
@pytest.mark.parametrize("output_type", ["ndarray", "tensor"])
def test_the_parts_of_an_extraction_are_read_whole(
    output_type: str, in_one_file: bool, extractor: Extractor, folder: Path, tmp_path: Path
) -> None:
    batches = load_batches(folder, tmp_path / "out", "pt", batch_size=1)
    expected = extractor.extract_features(batches, module_names=MODULES)
    options: dict[str, Any] = {"output_type": output_type, "save_in_one_file": in_one_file}
    extractor.extract_features(
        batches, module_names=MODULES, output_dir=tmp_path / "out", step_size=2, **options
    )
    loaded = load_features(tmp_path / "out")
    assert sorted(loaded.features) == sorted(MODULES)
    for module, rows in expected.items():
        np.testing.assert_array_equal(loaded.features[module], rows)
    assert loaded.names == batches.dataset.names
    assert loaded.provenance is not None
    assert str(loaded.provenance.model) == MODEL
    one = load_features(tmp_path / "out" / "features.3")
    np.testing.assert_array_equal(one.array, expected["features.3"])
    assert list(one.features) == ["features.3"]


def test_a_part_that_is_missing_is_named(
    extractor: Extractor, folder: Path, tmp_path: Path
) -> None:
    batches = load_batches(folder, tmp_path / "out", "pt", batch_size=1)
    extractor.extract_features(batches, "features.3", output_dir=tmp_path / "out", step_size=1)
    (tmp_path / "out" / "features.3" / "features_1-2.npy").unlink()
    with pytest.raises(InvalidRequestError, match="rows 1 to 2 are missing"):
        load_features(tmp_path / "out")
    (tmp_path / "out" / "features.3" / "features_2-3.npy").unlink()
    record = next((tmp_path / "out").glob(".features*.job"))
    record.write_bytes(b"".join(record.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(InvalidRequestError, match=r"has not ended: 1.* images are complete"):
        load_features(tmp_path / "out")
    assert len(load_features(tmp_path / "out", partial=True)) == 1


@pytest.mark.parametrize("step_size", [1, 2])
def test_skipped_images_leave_no_hole(
    step_size: int, extractor: Extractor, folder: Path, tmp_path: Path
) -> None:
    (folder / "cats" / "broken.png").write_bytes(next(folder.rglob("*.png")).read_bytes()[:2000])
    batches = load_batches(folder, tmp_path / "out", "pt", batch_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor.extract_features(
            batches,
            "classifier.1",
            output_dir=tmp_path / "out",
            step_size=step_size,
            on_error="skip",
        )
    loaded = load_features(tmp_path / "out")
    assert len(loaded) == 3
    assert loaded.names is not None
    assert not any("broken" in name for name in loaded.names)
    assert loaded.provenance is not None
    if step_size > 1:  # else its part has no file
        (skipped,) = loaded.metadata["classifier.1"]["skipped"]
        assert skipped["name"] == "cats/broken.png"
    good = load_batches(folder, tmp_path / "good", "pt", batch_size=1, file_names=loaded.names)
    expected = extractor.extract_features(good, "classifier.1")
    assert_close(loaded.array, expected)  # the cores of a pass follow from the number of images


def test_targets_lie_beside_features(extractor: Extractor, folder: Path, tmp_path: Path) -> None:
    dataset = ImageDataset(folder, tmp_path / "out", "pt")
    batches = load_batches(folder, tmp_path / "out", "pt", batch_size=3)
    save_features(extractor.extract_features(batches, "classifier.1"), tmp_path / "out", "npy")
    assert load_features(tmp_path / "out").targets is None
    save_targets(dataset.targets, tmp_path / "out", "npy")
    loaded = load_features(tmp_path / "out")
    assert loaded.targets is not None
    np.testing.assert_array_equal(loaded.targets, [[0], [0], [1]])
    save_targets(dataset.targets[:2], tmp_path / "out", "npy")
    with pytest.warns(UserWarning, match=r"targets.npy has 2 rows, but the features have 3"):
        assert load_features(tmp_path / "out").targets is None


def test_files_of_the_library_are_read(tmp_path: Path) -> None:
    names = [f"cats/{n}.jpg" for n in range(6)]
    (tmp_path / "file_names.txt").write_text("".join(f"{name}\n" for name in names))
    np.save(tmp_path / "features.npy", ROWS)
    assert load_features(tmp_path).names == names
    assert load_features(tmp_path).provenance is None
    (tmp_path / "features.npy").unlink()
    with h5py.File(tmp_path / "features.hdf5", "w") as file:
        file["features"] = ROWS
    np.testing.assert_array_equal(load_features(tmp_path).array, ROWS)
    (tmp_path / "features.hdf5").unlink()
    savemat(tmp_path / "features.mat", {"features": ROWS})
    np.testing.assert_array_equal(load_features(tmp_path / "features.mat").array, ROWS)
    np.save(tmp_path / "features.npy", ROWS)
    with pytest.raises(InvalidRequestError, match=r"several times: features.npy, features.mat"):
        load_features(tmp_path)
    (tmp_path / "file_names.txt").write_text("a\n")
    with pytest.warns(UserWarning, match=r"has 1 lines, but the features have 6 rows"):
        assert load_features(tmp_path / "features.npy").names is None
    (tmp_path / "library" / "layer.1").mkdir(parents=True)
    np.save(tmp_path / "library" / "layer.1" / "features_0-4.npy", ROWS[:4])
    np.save(tmp_path / "library" / "layer.1" / "features_4-6.npy", ROWS[4:])
    assert list(load_features(tmp_path / "library").features) == ["layer.1"]
    np.testing.assert_array_equal(load_features(tmp_path / "library").array, ROWS)


def test_what_was_changed_has_no_provenance(extraction: Saved, tmp_path: Path) -> None:
    save_features(extraction.features["features.3"], tmp_path, "npy")
    np.save(tmp_path / "features.npy", ROWS[:3])
    with pytest.warns(UserWarning, match="was changed after features.npy.json was written"):
        assert load_features(tmp_path).provenance is None


def test_what_was_read_is_saved_with_its_provenance(extraction: Saved, tmp_path: Path) -> None:
    save_features(extraction.features, tmp_path / "a", "hdf5")
    save_features(load_features(tmp_path / "a").features, tmp_path / "b", "npz")
    again = load_features(tmp_path / "b")
    assert again.provenance == extraction.provenance
    assert again.names == extraction.images
    origin = origin_of(again.features["features.3"])
    assert origin is not None
    assert origin["model_sha256"] == extraction.provenance.model_sha256


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="neither a file nor a folder"):
        load_features(tmp_path / "nothing")
    with pytest.raises(InvalidRequestError, match=r"There are no features in .*\.npy"):
        load_features(tmp_path)
    (tmp_path / "features.doc").write_text("x")
    with pytest.raises(InvalidRequestError, match=r"must be a file of features .*features\.doc"):
        load_features(tmp_path / "features.doc")
    with pytest.raises(InvalidRequestError, match="not the provenance of features"):
        Provenance.from_dict({"model": "torchvision/alexnet"})


@pytest.mark.parametrize("file_format", sorted(FORMATS))
@pytest.mark.parametrize("content", [b"", b"hello world " * 30, b"\x00" * 900, None])
def test_damaged_files_are_refused_without_advice_to_run_them(
    tmp_path: Path, file_format: str, content: bytes | None
) -> None:
    save_features(np.ones((4, 300), "float32"), tmp_path, file_format, names=list("abcd"))
    path = FORMATS[file_format].find_file(tmp_path, "features")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 - 7] if content is None else content)
    with pytest.raises(
        InvalidRequestError, match=r"empty|damaged|no arrays|has no features"
    ) as raised:
        load_features(path)
    assert "pickle" not in str(raised.value)
    assert not str(raised.value).endswith((": ", "101", "range"))


def test_python_objects_and_unreadable_metadata_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequestError, match="it has Python objects, which are not read"):
        load_features(tmp_path / "objects.npy")
    save_features(np.eye(3), tmp_path, "npy")
    (tmp_path / "features.npy.json").write_text("{")
    with pytest.warns(UserWarning, match="can't be read: the provenance of .* is not known"):
        load_features(tmp_path)
    with pytest.raises(InvalidRequestError, match="'features': It can't be read as an array"):
        save_features([[1, 2], [3]], tmp_path / "more", "npy")

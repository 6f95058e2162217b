"""Whole arrays, targets and slices: saved in every format and read again."""

import json
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch

from support.saved_arrays import (
    FLAT,
    MAPS,
    NAMES,
    OF_TENSORS,
    RNG,
    SEVERAL,
    assert_same,
    files,
)
from thingsvision_client import ImageDataset, save_features
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.files import file_stem
from thingsvision_client.formats import FORMATS, mat
from thingsvision_client.origins import Fingerprint, remember
from thingsvision_client.utils.file_names import write_lines
from thingsvision_client.utils.storing import (
    check_format,
    merge_features,
    save_targets,
    slices2tensor,
    split_features,
    store_features,
    tensor2slices,
)

# What the rows of made-up arrays are called is tested in test_row_naming.py.
pytestmark = pytest.mark.filterwarnings(
    "ignore:It is not known which images:thingsvision_client.errors.UnnamedRowsWarning"
)

ARRAY = np.arange(24, dtype="float32").reshape(2, 3, 4)
OF_SEVERAL = ["npz", "hdf5", "mat", "pt", "parquet"]


# ---------------------------------------------------------------- whole


def test_npy(tmp_path: Path) -> None:
    save_features(ARRAY, tmp_path / "new/folder", "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "new/folder/features.npy"), ARRAY)


@pytest.mark.parametrize("features", [FLAT, MAPS], ids=["2-D", "4-D"])
@pytest.mark.parametrize("file_format", OF_TENSORS)
def test_whole_arrays_come_back(file_format: str, features: npt.NDArray, tmp_path: Path) -> None:
    save_features(features, tmp_path, file_format)
    assert files(tmp_path) == [f"features.{FORMATS[file_format].suffix}"]
    assert_same(merge_features(tmp_path, file_format), features)


@pytest.mark.parametrize("file_format", OF_SEVERAL)
def test_whole_modules_come_back(file_format: str, tmp_path: Path) -> None:
    save_features(SEVERAL, tmp_path, file_format)
    assert files(tmp_path) == [f"features.{FORMATS[file_format].suffix}"]
    assert_same(merge_features(tmp_path, file_format), SEVERAL)


def test_txt_holds_matrices_as_numpy_reads_them(tmp_path: Path) -> None:
    save_features(FLAT, tmp_path, "txt")
    assert_same(np.loadtxt(tmp_path / "features.txt").astype("float32"), FLAT)
    merged = merge_features(tmp_path, "txt")
    assert merged.dtype == np.float64
    assert_same(merged.astype("float32"), FLAT)
    with pytest.raises(InvalidRequestError, match="tensor2slices"):
        save_features(MAPS, tmp_path, "txt")
    merged = merge_features(tmp_path, "txt")
    assert merged.dtype == np.float64
    assert_same(merged.astype("float32"), FLAT)


def test_any_memory_order_and_part_of_an_array(tmp_path: Path) -> None:
    for number, odd in enumerate(
        [
            FLAT.T,
            FLAT[::-2],
            np.asfortranarray(MAPS),
            MAPS.transpose(0, 3, 1, 2),
            FLAT.astype(">f4"),
        ]
    ):
        for file_format in OF_TENSORS:
            save_features(odd, tmp_path / str(number), file_format)
            merged = merge_features(tmp_path / str(number), file_format)
            assert_same(merged, odd.astype("float32"))


def test_arrays_larger_than_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thingsvision_client.formats.whole._PART_BYTES", 100)
    for file_format in OF_TENSORS:
        save_features(MAPS, tmp_path, file_format)
        assert_same(merge_features(tmp_path, file_format), MAPS)
        split_features(MAPS, tmp_path / "split", file_format, 4)
        assert_same(merge_features(tmp_path / "split", file_format), MAPS)


def test_tensors_are_taken_as_they_are(tmp_path: Path) -> None:
    tensor = torch.from_numpy(MAPS.copy()).requires_grad_()
    for file_format in OF_TENSORS:
        save_features(tensor, tmp_path, file_format)
        assert_same(merge_features(tmp_path, file_format), MAPS)
    save_features({"a": tensor, "b": FLAT}, tmp_path, "pt")
    loaded = torch.load(tmp_path / "features.pt", weights_only=True)
    assert torch.equal(loaded["a"], tensor)
    save_features(tensor.to(torch.bfloat16), tmp_path, "npy")  # numpy has no such type
    rounded = tensor.detach().to(torch.bfloat16).float().numpy()
    assert_same(merge_features(tmp_path, "npy"), rounded)


def test_names_of_steps_and_paths_survive_an_archive(tmp_path: Path) -> None:
    features = {"V2.output@all": ARRAY, "outer/inner": ARRAY + 1, "a:b": ARRAY + 2, "file": ARRAY}
    save_features(features, tmp_path, "npz")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as loaded:
        assert_same(dict(loaded), features)
    save_features(ARRAY, tmp_path, "npz")
    with np.load(tmp_path / "features.npz") as loaded:
        assert_same(dict(loaded), {"features": ARRAY})


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    save_features(ARRAY, tmp_path, "npy")
    with pytest.raises(InvalidRequestError, match="object"):
        save_features(np.array([{}, None]), tmp_path, "npy")
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), ARRAY)
    assert files(tmp_path) == ["features.npy"]


def test_wrong_requests_name_the_valid_ones(tmp_path: Path) -> None:
    every = "npy, npz, hdf5, mat, txt, pt, parquet"
    with pytest.raises(
        InvalidRequestError, match=f"`file_format` must be one of {every}, got 'h6'"
    ):
        save_features(ARRAY, tmp_path, "h6")
    several = r"one array, got 2: .*\(npz, hdf5, mat, pt, parquet\)"
    for call in (
        lambda: save_features({"a": ARRAY, "b": ARRAY}, tmp_path, "npy"),
        lambda: check_format("txt", 2),
    ):
        with pytest.raises(InvalidRequestError, match=several):
            call()
    with pytest.raises(InvalidRequestError, match=r"same number of images, got .*'b': 1"):
        save_features({"a": ARRAY, "b": ARRAY[:1]}, tmp_path, "npz")
    with pytest.raises(InvalidRequestError, match="nothing to save: no array"):
        save_features({}, tmp_path, "npz")
    for nothing in (3.0, np.float32(3)):
        with pytest.raises(InvalidRequestError, match="must be an array of "):
            save_features(nothing, tmp_path, "npy")
    with pytest.raises(InvalidRequestError, match="nothing to save: no rows"):
        save_features(ARRAY[:0], tmp_path, "npy")
    assert files(tmp_path) == []


def test_every_module_has_a_file_name_of_its_own() -> None:
    names = ["block/conv", "block_conv", "block:conv", "block%2Fconv", "V2.output@t=3", "a\n", ""]
    stems = [file_stem(name) for name in names]
    assert stems[:2] == ["block%2Fconv", "block_conv"]
    assert stems[4:] == ["V2.output@t=3", "a%0A", "(model)"]
    assert len(set(stems)) == len(names)
    assert not set('<>:"/\\|?*\n') & set("".join(stems))


def extracted(names: list[str], kind: str = "encoded") -> npt.NDArray:
    """Return features of images with these names, as a server returns them."""
    array = RNG.normal(size=(len(names), 3)).astype("float32")
    images = tuple(Fingerprint(name, "0" * 64) for name in names)
    remember(array, {"module": "fc", "input": kind, "images": images})
    return array


def names_of_rows(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return list(file["file_names"].asstr()[()])


def test_rows_keep_the_names_of_their_images_whatever_another_dataset_left(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in ("b/1.png", "b/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"an image")
    first = extracted(["a/1.png", "a/2.png"])
    ImageDataset(root, tmp_path, "pt")  # a second one of the same out_path
    with pytest.warns(UserWarning, match="other images than these features have"):
        save_features(first, tmp_path, "hdf5")
    assert names_of_rows(tmp_path / "features.hdf5") == ["a/1.png", "a/2.png"]
    with pytest.warns(UserWarning, match="other images"):
        split_features(first, tmp_path, "mat", 2)
    cell = scipy.io.loadmat(tmp_path / "features_02.mat")["file_names"]
    assert cell[0, 0][0] == "a/2.png"
    save_features(extracted(["b/1.png", "b/2.png"]), tmp_path, "hdf5")  # without a warning
    assert names_of_rows(tmp_path / "features.hdf5") == ["b/1.png", "b/2.png"]


def test_a_list_of_names_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file_names.txt"
    write_lines(path, ["old.png"])
    with path.open() as reader:
        write_lines(path, ["new.png"])
        assert reader.read() == "old.png\n"
    assert path.read_text() == "new.png\n"
    with pytest.raises(InvalidRequestError, match=r"'caf\\udce9.png' must be UTF-8"):
        write_lines(path, ["a.png", "caf\udce9.png"])
    assert files(tmp_path) == ["file_names.txt"]


def test_an_origin_lies_beside_every_file(tmp_path: Path) -> None:
    save_features(FLAT, tmp_path, "npy")
    split_features(SEVERAL, tmp_path / "split", "npy", 2)
    split_features(FLAT, tmp_path, "hdf5", 2)
    tensor2slices(tmp_path, "slices.txt", MAPS)
    beside = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}
    expected = {"features.npy.json", "features.hdf5.json", "slices.txt.json"}
    assert beside - {"split/features.npy.pieces.json"} == expected | {
        f"split/{module}/features_0{number}.npy.json"
        for module in ("block%2Fconv", "fc.2", "(model)")
        for number in (1, 2)
    }
    document = json.loads((tmp_path / "split/fc.2/features_02.npy.json").read_text())
    assert document["file"] == "features_02.npy"
    assert document["modules"]["fc.2"]["shape"] == [11, 7]


# ---------------------------------------------------------------- the paper's


@pytest.mark.parametrize("limit", [2_000_000_000, 10], ids=["5", "7.3"])
@pytest.mark.parametrize("features", [FLAT, MAPS, MAPS[:, 0]], ids=["2-D", "4-D", "3-D"])
def test_mat_by_image(
    features: npt.NDArray, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mat, "VERSION_5_BYTES", limit)
    store_features(tmp_path, features, "mat")
    assert_same(merge_features(tmp_path, "mat"), features)  # nothing names the images
    store_features(tmp_path, features, "mat", names=NAMES)
    assert_same(merge_features(tmp_path, "mat"), features)
    split_features(features, tmp_path / "split", "mat", 3, by_image=True, names=NAMES)
    assert_same(merge_features(tmp_path / "split", "mat"), features)


def test_mat_by_image_has_a_variable_per_image(tmp_path: Path) -> None:
    store_features(tmp_path, FLAT, "mat", names=NAMES)
    content = scipy.io.loadmat(tmp_path / "features.mat")
    np.testing.assert_array_equal(content["class1_bild_04"], FLAT[4:5])
    assert content["file_names"][4, 0][0] == "class 1/bild ä 04.jpg"
    split_features(tmp_path, MAPS, "mat", 2, by_image=True, names=NAMES)
    content = scipy.io.loadmat(tmp_path / "features_02.mat")
    np.testing.assert_array_equal(content["class0_bild_12"], MAPS[12])
    assert len(content["file_names"]) == 11


@pytest.mark.parametrize("file_format", FORMATS)
def test_targets(file_format: str, tmp_path: Path) -> None:
    targets = np.array([[0], [0], [1], [2]])
    save_targets(targets, tmp_path / "new", file_format)
    kind = FORMATS[file_format]
    suffix = "h5" if file_format == "hdf5" else kind.suffix
    read = kind.read(tmp_path / f"new/targets.{suffix}")
    np.testing.assert_array_equal(next(iter(read.values())), targets)
    beside = f"targets.{suffix}.json"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {beside[:-5], beside}


def test_targets_as_other_programs_read_them(tmp_path: Path) -> None:
    targets = torch.tensor([[0], [2]])
    for file_format in ("txt", "mat", "hdf5"):
        save_targets(targets, str(tmp_path), file_format)
    assert (tmp_path / "targets.txt").read_text() == "0\n2\n"
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "targets.mat")["targets"], targets)
    with h5py.File(tmp_path / "targets.h5") as file:
        np.testing.assert_array_equal(file["targets"][()], targets)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_slices_of_a_tensor_come_back(dtype: str, tmp_path: Path) -> None:
    features = (np.abs(MAPS) * 50).astype(dtype)
    features.flat[0] = 2**62 + 1 if dtype == "int64" else 1
    for tensor in (features, features[:, 0]):
        tensor2slices(tmp_path, "slices.txt", tensor)
        assert_same(slices2tensor(tmp_path, "slices.txt"), tensor)


def test_slices_are_text_that_tells_its_shape(tmp_path: Path) -> None:
    tensor2slices(tmp_path, "slices.txt", torch.arange(12.0).reshape(1, 2, 3, 2) / 3)
    assert (tmp_path / "slices.txt").read_text().splitlines()[:6] == [
        "# Array shape: (1, 2, 3, 2)", "# Type: float32", "0 0.333333343", "0.666666687 1",
        "1.33333337 1.66666663", "# New slice",
    ]  # fmt: skip


def test_slices_of_the_original_are_read_and_broken_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "slices.txt"
    path.write_text("# Array shape: (1, 1, 2, 2)\n1.50000 2.00000\n3.00000 4.25000\n# New slice\n")
    expected = np.array([[[[1.5, 2.0], [3.0, 4.25]]]])
    assert_same(slices2tensor(tmp_path, "slices.txt"), expected)
    for text, match in (
        ("# Array shape: (1, 1, 2, 3)\n1 2\n3 4\n", "must have 6 values for shape"),
        ("1 2\n3 4\n", "first line must be a shape"),
        ("# Array shape: (1, 1, 1, 2)\n# Type: object\n1 2\n", "must be one of .*, got 'object'"),
        ("# Array shape: (1, 1, 1, 2)\n1 two\n", "slices.txt: .*two"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidRequestError, match=match):
            slices2tensor(tmp_path, "slices.txt")
    with pytest.raises(InvalidRequestError, match=r"Can't read slices from .*none"):
        slices2tensor(tmp_path, "none.txt")
    with pytest.raises(InvalidRequestError, match=r"at least three dimensions, got .*\(23, 7\)"):
        tensor2slices(tmp_path, "slices.txt", FLAT)

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch

from thingsvision_client import ImageDataset, save_features
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.files import file_stem
from thingsvision_client.formats import FORMATS, mat
from thingsvision_client.origins import Fingerprint, remember
from thingsvision_client.utils.data import write_lines
from thingsvision_client.utils.storing import (
    check_format,
    merge_features,
    save_targets,
    slices2tensor,
    split_features,
    store_features,
    tensor2slices,
)

RNG = np.random.default_rng(4)
ARRAY = np.arange(24, dtype="float32").reshape(2, 3, 4)
FLAT = RNG.normal(size=(23, 7)).astype("float32")
MAPS = RNG.normal(size=(23, 3, 4, 1)).astype("float32")
SEVERAL = {"block/conv": MAPS, "fc.2": FLAT, "": FLAT[:, :2]}
NAMES = [f"class {row % 3}/bild ä {row:02d}.jpg" for row in range(23)]
OF_TENSORS = ["npy", "npz", "hdf5", "mat", "pt", "parquet"]
OF_SEVERAL = ["npz", "hdf5", "mat", "pt", "parquet"]


def write_names(folder: Path, names: list[str] = NAMES) -> None:
    (folder / "file_names.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


def files(folder: Path) -> list[str]:
    """All files but origins, from the folder."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    beside = {f"{path}.json" for path in found}
    return sorted(str(path.relative_to(folder)) for path in found if str(path) not in beside)


def assert_same(actual: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(actual[name], array, strict=True)
    else:
        np.testing.assert_array_equal(actual, expected, strict=True)


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
    with pytest.raises(InvalidRequestError, match=r"'features' can't be read .*BFloat16"):
        save_features(tensor.to(torch.bfloat16), tmp_path, "npy")


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
    every = "valid: npy, npz, hdf5, mat, txt, pt, parquet"
    with pytest.raises(InvalidRequestError, match=f"no file format 'h5'; {every}"):
        save_features(ARRAY, tmp_path, "h5")
    several = r"one array, not 2: .*\(npz, hdf5, mat, pt, parquet\)"
    for call in (
        lambda: save_features({"a": ARRAY, "b": ARRAY}, tmp_path, "npy"),
        lambda: check_format("txt", 2),
    ):
        with pytest.raises(InvalidRequestError, match=several):
            call()
    with pytest.raises(InvalidRequestError, match=r"same number of images, not .*'b': 1"):
        save_features({"a": ARRAY, "b": ARRAY[:1]}, tmp_path, "npz")
    with pytest.raises(InvalidRequestError, match="nothing to save: no array"):
        save_features({}, tmp_path, "npz")
    for nothing in (3.0, np.float32(3)):
        with pytest.raises(InvalidRequestError, match="not an array of images x more"):
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


def test_image_names_go_in_where_rows_have_names(tmp_path: Path) -> None:
    def names_in_hdf5() -> list[str] | None:
        save_features(FLAT, tmp_path, "hdf5")
        with h5py.File(tmp_path / "features.h5") as file:
            return file["file_names"].asstr()[()].tolist() if "file_names" in file else None

    assert names_in_hdf5() is None
    write_names(tmp_path)
    assert names_in_hdf5() == NAMES
    write_names(tmp_path, NAMES[:-1])  # of other images
    assert names_in_hdf5() is None


def extracted(names: list[str], kind: str = "encoded") -> npt.NDArray:
    """Features of images of these names, as if a server had just given them."""
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
    with pytest.warns(UserWarning, match="other images than these features"):
        save_features(first, tmp_path, "hdf5")
    assert names_of_rows(tmp_path / "features.h5") == ["a/1.png", "a/2.png"]
    with pytest.warns(UserWarning, match="other images"):
        split_features(first, tmp_path, "mat", 2)
    cell = scipy.io.loadmat(tmp_path / "features_02.mat")["file_names"]
    assert cell[0, 0][0] == "a/2.png"
    save_features(extracted(["b/1.png", "b/2.png"]), tmp_path, "hdf5")  # without a warning
    assert names_of_rows(tmp_path / "features.h5") == ["b/1.png", "b/2.png"]


def test_rows_that_are_only_numbered_take_the_names_that_a_user_wrote(tmp_path: Path) -> None:
    write_names(tmp_path, ["x.png", "y.png"])
    save_features(extracted(["0", "1"], "tensor"), tmp_path, "hdf5")
    assert names_of_rows(tmp_path / "features.h5") == ["x.png", "y.png"]
    save_features(extracted(["a.png", "b.png"])[1:], tmp_path / "part", "hdf5")
    assert names_of_rows(tmp_path / "part/features.h5") == ["b.png"]


def test_a_list_of_names_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file_names.txt"
    write_lines(path, ["old.png"])
    with path.open() as reader:
        write_lines(path, ["new.png"])
        assert reader.read() == "old.png\n"
    assert path.read_text() == "new.png\n"
    with pytest.raises(InvalidRequestError, match=r"'caf\\udce9.png' is a name that is not UTF-8"):
        write_lines(path, ["a.png", "caf\udce9.png"])
    assert files(tmp_path) == ["file_names.txt"]


def test_an_origin_lies_beside_every_file(tmp_path: Path) -> None:
    save_features(FLAT, tmp_path, "npy")
    split_features(SEVERAL, tmp_path / "split", "npy", 2)
    split_features(FLAT, tmp_path, "hdf5", 2)
    tensor2slices(tmp_path, "slices.txt", MAPS)
    beside = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}
    expected = {"features.npy.json", "features.h5.json", "slices.txt.json"}
    assert beside - {"split/features.npy.pieces.json"} == expected | {
        f"split/{module}/features_0{number}.npy.json"
        for module in ("block%2Fconv", "fc.2", "(model)")
        for number in (1, 2)
    }
    document = json.loads((tmp_path / "split/fc.2/features_02.npy.json").read_text())
    assert document["file"] == "features_02.npy"
    assert document["modules"]["fc.2"]["shape"] == [11, 7]


# ---------------------------------------------------------------- split


@pytest.mark.parametrize("n_splits", [1, 5, 10, 23])
@pytest.mark.parametrize("features", [FLAT, MAPS, SEVERAL], ids=["2-D", "4-D", "several"])
@pytest.mark.parametrize("file_format", OF_TENSORS)
def test_pieces_come_back_whole(
    file_format: str, features: object, n_splits: int, tmp_path: Path
) -> None:
    split_features(features, tmp_path, file_format, n_splits)
    assert_same(merge_features(tmp_path, file_format), features)


def test_there_are_exactly_n_pieces_of_even_sizes(tmp_path: Path) -> None:
    split_features(FLAT, tmp_path, "npy")
    names = [f"features_{number:02d}.npy" for number in range(1, 11)]
    assert files(tmp_path) == ["features.npy.pieces.json", *names]
    for name, part in zip(names, np.array_split(FLAT, 10), strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / name), part, strict=True)


def test_a_hundred_pieces_have_three_digits(tmp_path: Path) -> None:
    rows = np.arange(120.0)[:, np.newaxis]
    split_features(rows, tmp_path, "npy", 100)
    assert files(tmp_path)[1] == "features_001.npy"
    assert_same(merge_features(tmp_path, "npy"), rows)


def test_pieces_in_txt(tmp_path: Path) -> None:
    split_features(FLAT, tmp_path, "txt", 3)
    np.testing.assert_array_equal(
        np.loadtxt(tmp_path / "features_03.txt").astype("float32"), FLAT[16:]
    )
    merged = merge_features(tmp_path, "txt")
    assert merged.dtype == np.float64
    assert_same(merged.astype("float32"), FLAT)
    with pytest.raises(InvalidRequestError, match="tensor2slices"):
        split_features(MAPS, tmp_path, "txt", 2)
    merged = merge_features(tmp_path, "txt")
    assert merged.dtype == np.float64
    assert_same(merged.astype("float32"), FLAT)


def test_modules_have_folders_where_a_file_holds_one(tmp_path: Path) -> None:
    split_features(SEVERAL, tmp_path, "npy", 2)
    folders = ["(model)", "block%2Fconv", "fc.2"]
    assert files(tmp_path) == [
        *(f"{folder}/features_0{number}.npy" for folder in folders[:2] for number in (1, 2)),
        *(f"fc.2/features_0{number}.npy" for number in (1, 2)),
        "features.npy.pieces.json",
    ]
    second = np.load(tmp_path / "block%2Fconv/features_02.npy")
    np.testing.assert_array_equal(second, MAPS[12:], strict=True)


def test_hdf5_has_pieces_as_datasets(tmp_path: Path) -> None:
    write_names(tmp_path)
    split_features(MAPS, tmp_path, "hdf5", 4)
    assert files(tmp_path) == ["features.h5", "file_names.txt"]
    with h5py.File(tmp_path / "features.h5") as file:
        assert set(file) == {"file_names", *(f"features_0{number}" for number in range(1, 5))}
        for number, part in enumerate(np.array_split(MAPS, 4), 1):
            np.testing.assert_array_equal(file[f"features_0{number}"][()], part)
        assert file["file_names"].asstr()[()].tolist() == NAMES
    split_features(SEVERAL, tmp_path, "hdf5", 2)
    with h5py.File(tmp_path / "features.h5") as file:
        assert set(file) == {"file_names", "block%2Fconv", "fc.2", "(model)"}
        np.testing.assert_array_equal(file["fc.2/features_02"][()], FLAT[12:])


def test_mat_has_a_file_per_piece_with_its_names(tmp_path: Path) -> None:
    write_names(tmp_path)
    split_features(FLAT, tmp_path, "mat", 2)
    content = scipy.io.loadmat(tmp_path / "features_02.mat")
    np.testing.assert_array_equal(content["features"], FLAT[12:], strict=True)
    assert [cell[0][0] for cell in content["file_names"]] == NAMES[12:]


@pytest.mark.parametrize("n_splits", [0, -1, 24])
def test_no_piece_is_empty(n_splits: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=f"n_splits is 1 to 23, .* not {n_splits}"):
        split_features(FLAT, tmp_path, "npy", n_splits)
    assert files(tmp_path) == []


def test_the_order_of_arguments_of_the_original(tmp_path: Path) -> None:
    split_features(str(tmp_path), FLAT, "npy", 2)
    assert_same(merge_features(str(tmp_path), "npy"), FLAT)


# ---------------------------------------------------------------- sets of pieces


def test_fewer_pieces_take_those_of_an_earlier_split_away(tmp_path: Path) -> None:
    split_features(FLAT, tmp_path, "npy", 20)
    (tmp_path / "features_77.npy").write_bytes(b"of some other program")
    (tmp_path / "features_notes.npy").write_bytes(b"of the user")
    split_features(FLAT + 1, tmp_path, "npy", 3)
    pieces = [f"features_0{number}.npy" for number in (1, 2, 3)]
    assert files(tmp_path) == ["features.npy.pieces.json", *pieces, "features_notes.npy"]
    assert not list(tmp_path.glob("features_2*.json"))
    assert_same(merge_features(tmp_path, "npy"), FLAT + 1)


def test_pieces_of_modules_give_way_to_those_of_one_array_and_back(tmp_path: Path) -> None:
    for features in (SEVERAL, FLAT, SEVERAL):
        split_features(features, tmp_path, "npy", 3)
        assert_same(merge_features(tmp_path, "npy"), features)
    (tmp_path / "fc.2/notes.txt").write_text("of the user")
    split_features(MAPS, tmp_path, "npy", 2)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["fc.2"]
    assert files(tmp_path / "fc.2") == ["notes.txt"]


def test_a_split_of_another_format_stays(tmp_path: Path) -> None:
    split_features(FLAT, tmp_path, "npy", 4)
    split_features(MAPS, tmp_path, "pt", 2)
    assert_same(merge_features(tmp_path, "npy"), FLAT)
    assert_same(merge_features(tmp_path, "pt"), MAPS)


def test_missing_and_changed_and_foreign_pieces_are_noticed(tmp_path: Path) -> None:
    split_features(FLAT, tmp_path, "npy", 4)
    last = tmp_path / "features_04.npy"
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(InvalidRequestError, match=r"features_04\.npy, .* is missing"):
        merge_features(tmp_path, "npy")
    np.save(last, FLAT[18:, :3])
    with pytest.raises(InvalidRequestError, match=r"features_04\.npy has \d+ bytes, not the \d+"):
        merge_features(tmp_path, "npy")
    last.write_bytes(content)
    np.save(tmp_path / "features_05.npy", FLAT)
    with pytest.raises(InvalidRequestError, match=r"features_05\.npy .* is not of the split"):
        merge_features(tmp_path, "npy")


def test_pieces_of_other_programs_are_read_if_there_is_no_gap(tmp_path: Path) -> None:
    for number, part in enumerate(np.array_split(FLAT, 11), 1):
        np.save(tmp_path / f"features_{number:02d}.npy", part)
    assert_same(merge_features(tmp_path, "npy"), FLAT)
    write_names(tmp_path)
    (tmp_path / "features_11.npy").unlink()
    with pytest.raises(InvalidRequestError, match=r"21\} rows, but file_names.txt has 23"):
        merge_features(tmp_path, "npy")
    (tmp_path / "features_03.npy").unlink()
    with pytest.raises(InvalidRequestError, match=r"Piece 3 .* is missing; .* features_04\.npy"):
        merge_features(tmp_path, "npy")
    np.save(tmp_path / "features_03.npy", MAPS)
    with pytest.raises(
        InvalidRequestError, match=r"features_03\.npy has rows of shape \(3, 4, 1\)"
    ):
        merge_features(tmp_path, "npy")
    np.save(tmp_path / "features_1.npy", FLAT)
    with pytest.raises(InvalidRequestError, match="a number that another file has"):
        merge_features(tmp_path, "npy")


def test_nothing_to_merge_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not there"):
        with pytest.raises(
            InvalidRequestError, match=r"neither features_01\.npy nor features\.npy"
        ):
            merge_features(folder, "npy")


def test_a_whole_file_newer_than_the_pieces_is_told(tmp_path: Path) -> None:
    save_features(MAPS, tmp_path, "npy")
    os.utime(tmp_path / "features.npy", (1, 1))
    split_features(FLAT, tmp_path, "npy", 2)
    assert_same(merge_features(tmp_path, "npy"), FLAT)
    os.utime(tmp_path / "features.npy", (4e9, 4e9))
    with pytest.raises(InvalidRequestError, match=r"features\.npy is newer than the pieces"):
        merge_features(tmp_path, "npy")


def test_a_list_of_pieces_takes_nothing_else_away(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    split_features(FLAT, folder, "npy", 2)
    outside = tmp_path / "features_01.npy"
    outside.write_bytes(b"of the user")
    path = folder / "features.npy.pieces.json"
    good = path.read_text()
    for bad in ("../features_01.npy", f"{tmp_path}/features_01.npy", "fc/notes.npy"):
        path.write_text(good.replace("features_02.npy", bad))
        with pytest.raises(InvalidRequestError, match=r"names .* which is none|is missing"):
            merge_features(folder, "npy")
        split_features(FLAT, folder, "npy", 1)
        assert outside.read_bytes() == b"of the user"
        assert_same(merge_features(folder, "npy"), FLAT)
    path.write_text("{")
    with pytest.raises(InvalidRequestError, match="a list of pieces"):
        merge_features(folder, "npy")


def test_a_failure_half_way_leaves_the_old_split(tmp_path: Path) -> None:
    split_features(SEVERAL, tmp_path, "npy", 3)
    before = files(tmp_path)
    with pytest.raises(InvalidRequestError, match="object"):
        split_features({"fc.2": FLAT, "bad": np.full((23, 2), None)}, tmp_path, "npy", 3)
    assert files(tmp_path) == before
    assert_same(merge_features(tmp_path, "npy"), SEVERAL)


ENDING_EARLY = """
import itertools, os, pathlib, shutil, sys, traceback
import numpy as np
from thingsvision_client import origins
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.utils import splitting
from thingsvision_client.utils.storing import merge_features, save_features, split_features

folder, file_format, how = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
old = np.arange(12.0).reshape(6, 2)
new = -old
write, (before, after) = {
    "save": (save_features, ((), ())),
    "split": (split_features, ((3,), (2,))),
}[how]

def die_at(step):
    # What changes a folder of files goes through these, whoever calls.
    steps = itertools.count()
    def dying(function):
        def call(*args, **kwargs):
            if next(steps) == step:
                os._exit(9)
            return function(*args, **kwargs)
        return call
    for name in ("replace", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))

outcomes = []
for step in itertools.count():
    shutil.rmtree(folder, ignore_errors=True)
    write(old, folder, file_format, *before)
    child = os.fork()
    if not child:
        die_at(step)
        write(new, folder, file_format, *after)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        merged = merge_features(folder, file_format)
        outcomes.append("old" if (merged == old).all() else "new")
        assert (merged == old).all() or (merged == new).all()
    except InvalidRequestError as error:
        assert "was interrupted" in str(error), error
        outcomes.append("refused")
    write(new, folder, file_format, *after)  # the same call again
    assert (merge_features(folder, file_format) == new).all()
    if code == 0:
        break
print(*outcomes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("file_format", ["npy", "hdf5"])
@pytest.mark.parametrize("how", ["save", "split"])
def test_a_process_killed_at_any_step_leaves_no_mixture(
    how: str, file_format: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", ENDING_EARLY, str(tmp_path / "x"), file_format, how],
        capture_output=True,
        text=True,
    )
    outcomes = result.stdout.split()
    assert outcomes[:1] + outcomes[-1:] == ["old", "new"], result.stderr
    refused = outcomes.count("refused")
    assert (refused > 3) if (how, file_format) == ("split", "npy") else (refused == 0)
    order = ["old", "refused", "new"]
    assert outcomes == sorted(outcomes, key=order.index)


FULL_DISK = """
import resource, sys
import numpy as np
from thingsvision_client.formats import FORMATS, mat
from thingsvision_client.utils.storing import merge_features, save_features, split_features

old = np.arange(12.0).reshape(6, 2)
large = np.random.default_rng(0).normal(size=(5000, 30))
for name in (*FORMATS, "mat73"):
    mat.VERSION_5_BYTES = 10 if name == "mat73" else 10**9
    file_format = name.removesuffix("73")
    for write in (save_features, split_features):
        folder = f"{sys.argv[1]}/{name}/{write.__name__}"
        write(old, folder, file_format, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            write(large, folder, file_format, 2)
        except OSError as error:
            print(name, write.__name__)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert (merge_features(folder, file_format) == old).all()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_leaves_the_old_files(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == [
        f"{name} {write}"
        for name in (*FORMATS, "mat73")
        for write in ("save_features", "split_features")
    ]
    assert not list(tmp_path.rglob(".*"))


# ---------------------------------------------------------------- the paper's


@pytest.mark.parametrize("limit", [2_000_000_000, 10], ids=["5", "7.3"])
@pytest.mark.parametrize("features", [FLAT, MAPS, MAPS[:, 0]], ids=["2-D", "4-D", "3-D"])
def test_mat_by_image(
    features: npt.NDArray, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mat, "VERSION_5_BYTES", limit)
    store_features(tmp_path, features, "mat")
    assert_same(merge_features(tmp_path, "mat"), features)  # nothing names the images
    write_names(tmp_path)
    store_features(tmp_path, features, "mat")
    assert_same(merge_features(tmp_path, "mat"), features)
    split_features(features, tmp_path / "split", "mat", 3, by_image=True)
    assert_same(merge_features(tmp_path / "split", "mat"), features)


def test_mat_by_image_has_a_variable_per_image(tmp_path: Path) -> None:
    write_names(tmp_path)
    store_features(tmp_path, FLAT, "mat")
    content = scipy.io.loadmat(tmp_path / "features.mat")
    np.testing.assert_array_equal(content["class1_bild_04"], FLAT[4:5])
    assert content["file_names"][4, 0][0] == "class 1/bild ä 04.jpg"
    split_features(tmp_path, MAPS, "mat", 2, by_image=True)
    content = scipy.io.loadmat(tmp_path / "features_02.mat")
    np.testing.assert_array_equal(content["class0_bild_12"], MAPS[12])
    assert len(content["file_names"]) == 11


@pytest.mark.parametrize("file_format", FORMATS)
def test_targets(file_format: str, tmp_path: Path) -> None:
    targets = np.array([[0], [0], [1], [2]])
    save_targets(targets, tmp_path / "new", file_format)
    kind = FORMATS[file_format]
    read = kind.read(tmp_path / f"new/targets.{kind.suffix}")
    np.testing.assert_array_equal(next(iter(read.values())), targets)
    assert len(list((tmp_path / "new").iterdir())) == 1


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
        ("# Array shape: (1, 1, 2, 3)\n1 2\n3 4\n", "has 4 values, but the shape"),
        ("1 2\n3 4\n", "first line has no shape"),
        ("# Array shape: (1, 1, 1, 2)\n# Type: object\n1 2\n", "no type 'object'"),
        ("# Array shape: (1, 1, 1, 2)\n1 two\n", "slices.txt: .*two"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidRequestError, match=match):
            slices2tensor(tmp_path, "slices.txt")
    with pytest.raises(InvalidRequestError, match=r"Can't read slices from .*none"):
        slices2tensor(tmp_path, "none.txt")
    with pytest.raises(InvalidRequestError, match=r"three dimensions or more, not .*\(23, 7\)"):
        tensor2slices(tmp_path, "slices.txt", FLAT)

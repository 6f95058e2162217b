"""Arrays saved in pieces: complete sets alone are read, and old ones go."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from support.saved_arrays import (
    FLAT,
    MAPS,
    NAMES,
    OF_TENSORS,
    SEVERAL,
    assert_same,
    files,
    write_names,
)
from thingsvision_client import save_features
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.formats import FORMATS
from thingsvision_client.utils.storing import (
    merge_features,
    split_features,
)

# What the rows of made-up arrays are called is tested in test_row_naming.py.
pytestmark = pytest.mark.filterwarnings(
    "ignore:It is not known which images:thingsvision_client.errors.UnnamedRowsWarning"
)

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
    split_features(MAPS, tmp_path, "hdf5", 4, names=NAMES)
    assert files(tmp_path) == ["features.hdf5"]
    with h5py.File(tmp_path / "features.hdf5") as file:
        assert set(file) == {"file_names", *(f"features_0{number}" for number in range(1, 5))}
        for number, part in enumerate(np.array_split(MAPS, 4), 1):
            np.testing.assert_array_equal(file[f"features_0{number}"][()], part)
        assert file["file_names"].asstr()[()].tolist() == NAMES
    split_features(SEVERAL, tmp_path, "hdf5", 2)
    with h5py.File(tmp_path / "features.hdf5") as file:
        assert set(file) == {"file_names", "block%2Fconv", "fc.2", "(model)"}
        np.testing.assert_array_equal(file["fc.2/features_02"][()], FLAT[12:])


def test_mat_has_a_file_per_piece_with_its_names(tmp_path: Path) -> None:
    split_features(FLAT, tmp_path, "mat", 2, names=NAMES)
    content = scipy.io.loadmat(tmp_path / "features_02.mat")
    np.testing.assert_array_equal(content["features"], FLAT[12:], strict=True)
    assert [cell[0][0] for cell in content["file_names"]] == NAMES[12:]


@pytest.mark.parametrize("n_splits", [0, -1, 24])
def test_no_piece_is_empty(n_splits: int, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidRequestError, match=f"`n_splits` must be from 1 to 23, .* got {n_splits}"
    ):
        split_features(FLAT, tmp_path, "npy", n_splits)
    assert files(tmp_path) == []


def test_the_order_of_arguments_of_the_original(tmp_path: Path) -> None:
    split_features(str(tmp_path), FLAT, "npy", 2)
    assert_same(merge_features(str(tmp_path), "npy"), FLAT)


# ---------------------------------------------------------------- sets of pieces


def test_a_split_into_fewer_pieces_removes_the_earlier_pieces(tmp_path: Path) -> None:
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
    with pytest.raises(
        InvalidRequestError, match=r"features_04\.npy must have the \d+ bytes written, got \d+"
    ):
        merge_features(tmp_path, "npy")
    last.write_bytes(content)
    np.save(tmp_path / "features_05.npy", FLAT)
    with pytest.raises(
        InvalidRequestError, match=r"features_05\.npy .* does not belong to the split"
    ):
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
    with pytest.raises(InvalidRequestError, match=r"Piece 3 .* missing; next is features_04\.npy"):
        merge_features(tmp_path, "npy")
    np.save(tmp_path / "features_03.npy", MAPS)
    with pytest.raises(InvalidRequestError, match=r"features_03\.npy has \(3, 4, 1\)"):
        merge_features(tmp_path, "npy")
    np.save(tmp_path / "features_1.npy", FLAT)
    with pytest.raises(InvalidRequestError, match="the same number as another file"):
        merge_features(tmp_path, "npy")


def test_merging_without_pieces_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not there"):
        with pytest.raises(
            InvalidRequestError, match=r"neither features_01\.npy nor features\.npy"
        ):
            merge_features(folder, "npy")


def test_a_whole_file_newer_than_the_pieces_is_reported(tmp_path: Path) -> None:
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
        with pytest.raises(InvalidRequestError, match=r"names .* which is not a piece|is missing"):
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
def test_a_process_killed_at_any_step_never_mixes_old_and_new_files(
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

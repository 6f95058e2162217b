"""Formats of files: written and read here, read by other programs, and refused."""

import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch

from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.files import atomic_path
from thingsvision_client.formats import FORMATS, Column, FileFormat, mat
from thingsvision_client.formats.matlab_names import valid_name, variable_names

Arrays = dict[str, npt.NDArray]

RNG = np.random.default_rng(4)
COUNT = 11
FLAT = RNG.normal(size=(COUNT, 5)).astype("float32")
MAPS = RNG.normal(size=(COUNT, 2, 3, 4)).astype("float32")
SEVERAL = {"block/conv": MAPS, "features.10": FLAT, "features": FLAT + 1, "": FLAT[:, :1]}
SEVERAL = {**SEVERAL, "head 100%": FLAT.astype("float64") / 3}
NAMES = [f"class {row}/bild ä {row}.jpg" for row in range(COUNT)]
HOLD_SEVERAL = [name for name, one in FORMATS.items() if one.holds_several]


def write(path: Path, arrays: Arrays, file_format: FileFormat, **options: object) -> None:
    """Write in uneven parts, as rows arrive."""
    columns = [Column(name, one.shape[1:], str(one.dtype)) for name, one in arrays.items()]
    count = len(next(iter(arrays.values())))
    with file_format.open_writer(path, columns, count, **options) as writer:
        for start, stop in ((0, 1), (1, 1), (1, 5), (5, 8), (8, count)):
            writer.write([array[start:stop] for array in arrays.values()])


def assert_same(actual: Arrays, expected: Arrays) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        np.testing.assert_array_equal(actual[name], array, strict=True)


@pytest.fixture(params=[2_000_000_000, 10], ids=["5", "7.3"])
def mat_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both kinds of MATLAB's files, whatever the size."""
    monkeypatch.setattr(mat, "VERSION_5_BYTES", request.param)
    return 5 if request.param > 10 else 73


# ---------------------------------------------------------------- what is written is read


@pytest.mark.parametrize("array", [FLAT, MAPS], ids=["2-D", "4-D"])
@pytest.mark.parametrize("name", ["npy", "npz", "hdf5", "mat", "pt", "parquet"])
def test_one_array_comes_back(
    name: str, array: npt.NDArray, mat_version: int, tmp_path: Path
) -> None:
    path = tmp_path / f"features.{FORMATS[name].suffix}"
    write(path, {"features": array}, FORMATS[name])
    assert_same(FORMATS[name].read(path), {"features": array})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", HOLD_SEVERAL)
def test_several_modules_come_back_by_their_own_names(
    name: str, mat_version: int, tmp_path: Path
) -> None:
    path = tmp_path / f"features.{FORMATS[name].suffix}"
    write(path, SEVERAL, FORMATS[name], names=NAMES)
    assert_same(FORMATS[name].read(path), SEVERAL)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", FORMATS)
def test_every_type_of_values_comes_back_or_is_refused_by_name(name: str, tmp_path: Path) -> None:
    every = ["bool", "int8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64"]
    for dtype in [*every, "complex64", "object", "<U3"]:
        path = tmp_path / f"{dtype}.{FORMATS[name].suffix}"
        array = np.abs(FLAT * 100).astype(dtype)
        if dtype not in FORMATS[name].dtypes:
            with pytest.raises(InvalidRequestError, match=f"{name} can't hold 'features'.*float32"):
                write(path, {"features": array}, FORMATS[name])
            continue
        write(path, {"features": array}, FORMATS[name])
        read = FORMATS[name].read(path)["features"]
        assert read.dtype == (np.float64 if name == "txt" else array.dtype)
        np.testing.assert_array_equal(read.astype(dtype), array)


def test_refused_types_are_few() -> None:
    numbers = FORMATS["npy"].dtypes
    assert {
        name: numbers - one.dtypes for name, one in FORMATS.items() if one.dtypes < numbers
    } == {
        "mat": {"float16"},
        "parquet": {"bool"},
    }


@pytest.mark.parametrize("name", ["npy", "npz", "hdf5", "pt", "parquet"])
def test_one_dimension_comes_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    write(path, {"features": np.arange(COUNT)}, FORMATS[name])
    assert_same(FORMATS[name].read(path), {"features": np.arange(COUNT)})


@pytest.mark.parametrize("name", ["mat", "txt"])
def test_formats_of_matrices_make_a_column_of_one_dimension(
    name: str, mat_version: int, tmp_path: Path
) -> None:
    path = tmp_path / "numbers.mat"
    write(path, {"features": np.arange(COUNT)}, FORMATS[name])
    np.testing.assert_array_equal(FORMATS[name].read(path)["features"], np.c_[np.arange(COUNT)])


# ---------------------------------------------------------------- as other programs read them


def test_npy_is_what_numpy_writes(tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", MAPS)
    write(tmp_path / "ours.npy", {"features": MAPS}, FORMATS["npy"])
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_npz_is_read_by_numpy(tmp_path: Path) -> None:
    write(tmp_path / "all.npz", SEVERAL, FORMATS["npz"])
    with np.load(tmp_path / "all.npz", allow_pickle=False) as archive:
        assert_same(dict(archive), SEVERAL)
    assert zipfile.ZipFile(tmp_path / "all.npz").testzip() is None


def test_txt_is_read_by_numpy_and_float32_comes_back_exactly(tmp_path: Path) -> None:
    hard = np.array([[1 / 3, 1e-45, np.nan], [3.4e38, -0.0, -np.inf]], "float32")
    with FORMATS["txt"].open_writer(tmp_path / "a.txt", [Column("a", (3,), "float32")], 2) as out:
        out.write([hard])
    assert (tmp_path / "a.txt").read_text().splitlines()[0].startswith("0.333333343 ")
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "a.txt").astype("float32"), hard)
    write(tmp_path / "b.txt", {"b": FLAT.astype("float64") / 3}, FORMATS["txt"])
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "b.txt"), FLAT.astype("float64") / 3)


def test_pt_is_read_by_torch_without_unpickling(tmp_path: Path) -> None:
    write(tmp_path / "one.pt", {"features": MAPS}, FORMATS["pt"])
    one = torch.load(tmp_path / "one.pt", weights_only=True)
    assert torch.equal(one, torch.from_numpy(MAPS))
    write(tmp_path / "all.pt", SEVERAL, FORMATS["pt"])
    loaded = torch.load(tmp_path / "all.pt", weights_only=True)
    assert list(loaded) == list(SEVERAL)
    assert torch.equal(loaded["block/conv"], torch.from_numpy(MAPS))


def test_hdf5_has_a_dataset_per_module_and_no_accidental_groups(tmp_path: Path) -> None:
    write(tmp_path / "one.h5", {"features": MAPS}, FORMATS["hdf5"], names=NAMES)
    with h5py.File(tmp_path / "one.h5") as file:
        assert set(file) == {"features", "file_names"}
        np.testing.assert_array_equal(file["features"][()], MAPS)
        assert file["file_names"].asstr()[()].tolist() == NAMES
    write(tmp_path / "all.h5", SEVERAL, FORMATS["hdf5"])
    with h5py.File(tmp_path / "all.h5") as file:
        expected = {"block%2Fconv", "features.10", "features", "(model)", "head 100%25"}
        assert set(file) == expected
        assert all(isinstance(entry, h5py.Dataset) for entry in file.values())
        assert file["block%2Fconv"].attrs["module"] == "block/conv"
        np.testing.assert_array_equal(file["features.10"][()], FLAT)


def test_hdf5_of_other_programs_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "split.h5", "w") as file:
        for number in (2, 1, 10, *range(3, 10)):
            file[f"features_{number:02d}"] = FLAT[number - 1 : number]
    assert_same(FORMATS["hdf5"].read(tmp_path / "split.h5"), {"features": FLAT[:10]})
    with h5py.File(tmp_path / "split.h5", "a") as file:
        del file["features_04"]
    with pytest.raises(InvalidRequestError, match="piece 4 of / is missing"):
        FORMATS["hdf5"].read(tmp_path / "split.h5")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["features"] = "no numbers"
    with pytest.raises(InvalidRequestError, match="has no arrays of numbers"):
        FORMATS["hdf5"].read(tmp_path / "text.h5")


def test_parquet_has_tensors_with_their_shapes_and_the_images(tmp_path: Path) -> None:
    write(tmp_path / "all.parquet", SEVERAL, FORMATS["parquet"], names=NAMES)
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["image", *SEVERAL]
    assert table.column("image").to_pylist() == NAMES
    kind = table.schema.field("block/conv").type
    assert isinstance(kind, pa.FixedShapeTensorType)
    assert kind.shape == [2, 3, 4]
    tensors = table.column("block/conv").combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(tensors, MAPS)
    assert pq.ParquetFile(tmp_path / "all.parquet").num_row_groups == 4  # one per write of rows
    attributes = pd.read_parquet(tmp_path / "all.parquet").attrs
    assert attributes == {"shapes": {name: list(a.shape[1:]) for name, a in SEVERAL.items()}}


def test_nulls_of_parquet_are_nan_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "pandas.parquet"
    pq.write_table(pa.table({"a": pa.array([1.5, None], pa.float32())}), path)
    np.testing.assert_array_equal(FORMATS["parquet"].read(path)["a"], np.float32([1.5, np.nan]))
    for values in ([1, None], [True, None]):
        pq.write_table(pa.table({"a": pa.array(values)}), path)
        with pytest.raises(InvalidRequestError, match="'a' must not have nulls, got some"):
            FORMATS["parquet"].read(path)


def test_mat_of_version_5_is_read_by_scipy(tmp_path: Path) -> None:
    write(tmp_path / "one.mat", {"features": MAPS}, FORMATS["mat"], names=NAMES)
    content = scipy.io.loadmat(tmp_path / "one.mat")
    assert {name for name in content if name[0] != "_"} == {"features", "file_names"}
    np.testing.assert_array_equal(content["features"], MAPS, strict=True)
    assert content["file_names"].shape == (COUNT, 1)
    assert [cell[0][0] for cell in content["file_names"]] == NAMES
    write(tmp_path / "all.mat", SEVERAL, FORMATS["mat"])
    content = scipy.io.loadmat(tmp_path / "all.mat")
    variables = ["block_conv", "features_10", "features", "x", "head100_"]
    assert [name for name in content if name[0] != "_"] == ["module_names", *variables]
    for variable, array in zip(variables, SEVERAL.values(), strict=True):
        np.testing.assert_array_equal(content[variable], array, strict=True)
    assert ["".join(cell[0]) for cell in content["module_names"]] == list(SEVERAL)


def test_mat_of_version_7_3_is_as_matlab_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mat, "VERSION_5_BYTES", 10)
    path = tmp_path / "all.mat"
    write(path, {**SEVERAL, "is": MAPS > 0}, FORMATS["mat"], names=[*NAMES[1:], ""])
    head = path.read_bytes()[:512]
    assert re.fullmatch(rb"MATLAB 7.3 MAT-file, Platform: .*, Created on: .* HDF5 .*", head[:116])
    assert head[124:128] == b"\x00\x02IM"
    with pytest.raises(NotImplementedError, match=r"HDF reader for matlab v7\.3"):
        scipy.io.loadmat(path)
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        # MATLAB's N x 2 x 3 x 4 lies there as 4 x 3 x 2 x N.
        assert file["block_conv"].shape == (4, 3, 2, COUNT)
        np.testing.assert_array_equal(file["block_conv"][()].T, MAPS)
        classes = {name: file[name].attrs["MATLAB_class"] for name in file if name[0] != "#"}
        assert classes == {
            "block_conv": b"single", "features": b"single", "features_10": b"single",
            "file_names": b"cell", "head100_": b"double", "is": b"logical",
            "module_names": b"cell", "x": b"single",
        }  # fmt: skip
        assert file["file_names"].shape == (1, COUNT)
        first, last = (file[file["file_names"][0, row]] for row in (0, -1))
        assert first.attrs["MATLAB_class"] == last.attrs["MATLAB_class"] == b"char"
        assert "".join(map(chr, first[:, 0])) == NAMES[1]
        assert (last[()].tolist(), last.attrs["MATLAB_empty"]) == ([0, 0], 1)


def test_mat_chooses_its_version_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, version in ((FLAT.nbytes, 2), (FLAT.nbytes + 1, 1)):
        monkeypatch.setattr(mat, "VERSION_5_BYTES", limit)
        write(tmp_path / f"{limit}.mat", {"features": FLAT}, FORMATS["mat"])
        assert scipy.io.matlab.matfile_version(tmp_path / f"{limit}.mat")[0] == version


def test_big_rows_go_to_mat_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mat_version: int
) -> None:
    monkeypatch.setattr("thingsvision_client.formats.mat5._BLOCK_BYTES", 64)
    monkeypatch.setattr("thingsvision_client.formats.mat73._CHUNK_BYTES", 200)
    write(tmp_path / "a.mat", SEVERAL, FORMATS["mat"])
    assert_same(FORMATS["mat"].read(tmp_path / "a.mat"), SEVERAL)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("features", "features"), ("features.10", "features_10"), ("block/conv", "block_conv"),
        ("Item Number", "ItemNumber"), ("item number 2", "itemNumber2"), ("1st", "x1st"),
        ("_private", "x_private"), ("for", "xFor"), ("", "x"), ("größe", "gr__e"),
        (" led by space", "ledBySpace"), ("a" * 70, "a" * 63),
    ],
)  # fmt: skip
def test_names_become_matlab_s(name: str, valid: str) -> None:
    assert valid_name(name) == valid


def test_names_of_matlab_differ_from_each_other_and_from_ours() -> None:
    names = ["a.b", "a/b", "a_b_1", "a:b", "file_names", "b" * 63, "b" * 64]
    assert variable_names(names, {"file_names"}) == [
        "a_b", "a_b_1", "a_b_1_1", "a_b_2", "file_names_1", "b" * 63, "b" * 61 + "_1",
    ]  # fmt: skip


# ---------------------------------------------------------------- what can't be written


@pytest.mark.parametrize("name", FORMATS)
def test_a_writer_takes_exactly_the_announced_number_of_rows(name: str, tmp_path: Path) -> None:
    column = Column("features", (5,), "float32")
    opened = FORMATS[name].open_writer

    def attempt(*rows: list[npt.NDArray]) -> None:
        with atomic_path(tmp_path / "x") as path, opened(path, [column], 3) as writer:
            for part in rows:
                writer.write(part)

    with pytest.raises(InvalidRequestError, match="must be 3 rows, got only 2"):
        attempt([FLAT[:2]])
    with pytest.raises(InvalidRequestError, match="must be 3 rows, got at least 4"):
        attempt([FLAT[:2]], [FLAT[:2]])
    with pytest.raises(InvalidRequestError, match=r"\(5,\), float32; .* \(2, 4\), float32"):
        attempt([FLAT[:2, :4]])
    with pytest.raises(InvalidRequestError, match=r"\(5,\), float32; .* \(2, 5\), float64"):
        attempt([FLAT[:2].astype("float64")])
    with pytest.raises(InvalidRequestError, match="must be 1 arrays, one per column, got 2"):
        attempt([FLAT[:2], FLAT[:2]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_and_wrong_names_write_no_file(name: str, tmp_path: Path) -> None:
    good = Column("features", (5,), "float32")
    for columns, count, options, match in (
        ([good], 0, {}, "nothing to save: no rows"),
        ([Column("conv", (0,), "float32")], 2, {}, r"nothing to save: 'conv' has .* \(0,\)"),
        ([good], 3, {"names": NAMES}, r"an entry per row \(3\), got 11"),
    ):
        opening = FORMATS[name].open_writer(tmp_path / "x", columns, count, **options)
        with pytest.raises(InvalidRequestError, match=match), opening:
            pass
    assert list(tmp_path.iterdir()) == []


def test_limits_of_formats_are_named() -> None:
    matrix, maps = Column("conv", (5,), "float32"), Column("conv", (2, 3, 4), "float32")
    with pytest.raises(InvalidRequestError, match=r"images x 2 x 3 x 4 .*reshape.*tensor2slices"):
        FORMATS["txt"].check([maps])
    for name in ("npy", "txt"):
        with pytest.raises(InvalidRequestError, match=f"{name} holds one array, got 2"):
            FORMATS[name].check([matrix, matrix])
    with pytest.raises(InvalidRequestError, match="hdf5 file can't be called 'file_names'"):
        FORMATS["hdf5"].check([Column("file_names", (5,), "float32")])
    with pytest.raises(InvalidRequestError, match="parquet file can't be called 'image'"):
        FORMATS["parquet"].check([Column("image", (5,), "float32")])


@pytest.mark.parametrize("name", FORMATS)
def test_missing_broken_and_foreign_files_are_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"features.{FORMATS[name].suffix}"
    with pytest.raises(InvalidRequestError, match=r"There is no file .*features"):
        FORMATS[name].read(path)
    path.write_bytes(b"these are words, and no features at all" * 20)
    with pytest.raises(InvalidRequestError, match=r"Can't read .*features"):
        FORMATS[name].read(path)
    if name != "txt":  # half of a text is a text
        path.unlink()
        write(path, {"features": MAPS}, FORMATS[name])
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(InvalidRequestError, match=r"Can't read .*features"):
            FORMATS[name].read(path)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "features.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "features.npz", features=trap)
    torch.save(Trap(), tmp_path / "features.pt")
    for name in ("npy", "npz", "pt"):
        with pytest.raises(InvalidRequestError, match="Can't read"):
            FORMATS[name].read(tmp_path / f"features.{name}")
    torch.save({"conv": torch.zeros(2), "note": "text"}, tmp_path / "features.pt")
    with pytest.raises(InvalidRequestError, match="'note' is not a tensor"):
        FORMATS["pt"].read(tmp_path / "features.pt")


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("code ran",)


@pytest.mark.parametrize("name", FORMATS)
def test_an_interruption_leaves_the_old_file_and_nothing_else(
    name: str, mat_version: int, tmp_path: Path
) -> None:
    path = tmp_path / f"features.{FORMATS[name].suffix}"
    write(path, {"features": FLAT}, FORMATS[name])
    old = path.read_bytes()
    column = Column("features", (5,), "float32")
    opening = FORMATS[name].open_writer

    def interrupted() -> None:
        with (
            atomic_path(path) as unfinished,
            opening(unfinished, [column], COUNT) as writer,
        ):
            writer.write([FLAT[:4]])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]

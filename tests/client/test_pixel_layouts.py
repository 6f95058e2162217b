"""Arrays of images in HDF5 files: which axis is what, by request, attributes or shape."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from support.sent_images import messages
from thingsvision_client import DataLoader, HDF5Dataset, Reduction
from thingsvision_client.errors import InvalidRequestError

RNG = np.random.default_rng(5)
COLOURS = RNG.integers(0, 256, (7, 12, 9, 3), dtype=np.uint8)
GREYS = COLOURS[..., 1]
SQUARES = COLOURS[:, :9]


def write(folder: Path, array: np.ndarray, **attributes: Any) -> Path:
    path = folder / "stimuli.h5"
    with h5py.File(path, "w") as file:
        file["images"] = array
        file["images"].attrs.update(attributes)
    return path


def write_as_matlab(folder: Path, array: np.ndarray, kind: str = "uint8") -> Path:
    """Write what MATLAB's save -v7.3 writes for `array`: the axes in reverse, and its class."""
    path = folder / "stimuli.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("images", data=np.ascontiguousarray(array.T))
        file["images"].attrs["MATLAB_class"] = np.bytes_(kind)
        file.create_dataset("#refs#/a", data=array.T)
    return path


def pixels(path: Path, **options: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = HDF5Dataset(path, "images", "pt", **options)
    return np.stack(
        [np.asarray(Image.open(io.BytesIO(one.encoded))) for one in messages(found.queue())]
    )


# ---------------------------------------------------------------- by request


@pytest.mark.parametrize(
    ("layout", "array", "expected"),
    [
        ("NHWC", COLOURS, COLOURS),
        ("nchw", COLOURS.transpose(0, 3, 1, 2), COLOURS),
        ("NCWH", COLOURS.transpose(0, 3, 2, 1), COLOURS),
        ("HWCN", COLOURS.transpose(1, 2, 3, 0), COLOURS),
        ("CWHN", COLOURS.transpose(3, 2, 1, 0), COLOURS),
        ("channels_last", COLOURS, COLOURS),
        ("channels_first", COLOURS.transpose(0, 3, 1, 2), COLOURS),
        ("NHW", GREYS, GREYS),
        ("HWN", GREYS.transpose(1, 2, 0), GREYS),
        ("HWC", COLOURS[2], COLOURS[2:3]),
        ("CHW", COLOURS[2].transpose(2, 0, 1), COLOURS[2:3]),
        ("HW", GREYS[2], GREYS[2:3]),
        ("N(HWC)", SQUARES.reshape(7, -1), SQUARES),
        ("N(CHW)", SQUARES.transpose(0, 3, 1, 2).reshape(7, -1), SQUARES),
        ("N(HW)", SQUARES[..., 0].reshape(7, -1), SQUARES[..., 0]),
        ("(HWC)N", SQUARES.reshape(7, -1).T, SQUARES),
        ("NHWC", COLOURS[:1, :2, :2, :1], COLOURS[:1, :2, :2, 0]),
        ("NHWC", COLOURS[:, :, :3, [0, 1, 2, 0]], COLOURS[:, :, :3, [0, 1, 2, 0]]),
    ],
)
def test_the_layout_that_is_asked_for_decides(
    tmp_path: Path, layout: str, array: np.ndarray, expected: np.ndarray
) -> None:
    path = write(tmp_path, array, MATLAB_class=np.bytes_("uint8"), axes="CWHN"[-array.ndim :])
    np.testing.assert_array_equal(pixels(path, layout=layout), expected)


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ("NCHW", r"'NCHW', as `layout` says, does not fit .*1, 3 or 4 channels, its C axis has 12"),
        ("HWC", "does not fit .* it has 4 axes"),
        ("rgb", "must be letters .* got 'rgb'"),
        ("NHHC", "must be letters"),
        ("NHC", "must be letters"),
        ("N(HC)W", "must be letters"),
        ("", "must be letters"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path, layout: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"'images' in .*{sentence}"):
        HDF5Dataset(write(tmp_path, COLOURS), "images", "pt", layout=layout)


# ---------------------------------------------------------------- by attributes


def test_axes_of_matlab_are_turned_round(tmp_path: Path) -> None:
    for array, expected in (
        (COLOURS.transpose(1, 2, 3, 0), COLOURS),  # height x width x 3 x images
        (COLOURS, COLOURS),
        (COLOURS[4], COLOURS[4:5]),  # imread
        (COLOURS[:4].transpose(1, 2, 3, 0), COLOURS[:4]),
        (COLOURS[..., :1].transpose(1, 2, 3, 0), GREYS * 0 + COLOURS[..., 0]),
    ):
        np.testing.assert_array_equal(pixels(write_as_matlab(tmp_path, array)), expected)


def test_what_a_matlab_file_was_taken_for_is_said(tmp_path: Path) -> None:
    path = write_as_matlab(tmp_path, COLOURS.transpose(1, 2, 3, 0))
    with pytest.warns(UserWarning, match=r"7 RGB images of 12 x 9 pixels .*'NCWH'.*MATLAB_class"):
        found = HDF5Dataset(path, "images", "pt")
    assert found.layout == "NCWH"
    assert "7 RGB images of 12 x 9 pixels" in repr(found)
    assert HDF5Dataset(path, "images", "pt", layout="NCWH").layout == "NCWH"  # no warning


@pytest.mark.parametrize(
    ("kind", "array", "sentence"),
    [
        ("uint8", GREYS.transpose(1, 2, 0), "MATLAB wrote it as 12 x 9 x 7.*'NWH': 7 grey images"),
        ("uint8", COLOURS.transpose(3, 1, 2, 0), "MATLAB wrote it as 3 x 12 x 9 x 7"),
        ("logical", GREYS, "got logical"),
        ("cell", GREYS, "is a cell array"),
    ],
)
def test_what_matlab_leaves_open_is_refused(
    tmp_path: Path, kind: str, array: np.ndarray, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        HDF5Dataset(write_as_matlab(tmp_path, array, kind), "images", "pt")


@pytest.mark.parametrize(
    "attributes",
    [
        {"layout": "NCHW"},
        {"data_format": np.bytes_("channels_first")},
        {"axes": ["image", "channel", "y", "x"]},
        {"Dimension_Order": "N, C, H, W"},
        {"_ARRAY_DIMENSIONS": [b"time", b"band", b"row", b"column"]},
        {"axistags": json.dumps({"axes": [{"key": key} for key in "tcyx"]})},
        {"layout": "contiguous", "axes": "bcyx"},
        {"axes": "bcyx", "MATLAB_class": np.bytes_("uint8")},
    ],
)
def test_attributes_name_the_axes(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = write(tmp_path, COLOURS.transpose(0, 3, 1, 2), **attributes)
    np.testing.assert_array_equal(pixels(path), COLOURS)


def test_names_of_dimensions_name_the_axes(tmp_path: Path) -> None:
    path = write(tmp_path, GREYS.transpose(1, 2, 0))
    with h5py.File(path, "a") as file:
        for axis, label in zip(file["images"].dims, ["height", "width", "stimulus"], strict=True):
            axis.label = label
    np.testing.assert_array_equal(pixels(path), GREYS)


def test_scales_of_netcdf_name_the_axes(tmp_path: Path) -> None:
    path = write(tmp_path, GREYS)
    with h5py.File(path, "a") as file:
        for axis, name in enumerate(["frame", "y", "x"]):
            file[name] = np.arange(GREYS.shape[axis])
            file[name].make_scale(name)
            file["images"].dims[axis].attach_scale(file[name])
    np.testing.assert_array_equal(pixels(path), GREYS)


def test_images_as_the_hdf_group_defines_them(tmp_path: Path) -> None:
    attributes = {"CLASS": np.bytes_("IMAGE"), "INTERLACE_MODE": np.bytes_("INTERLACE_PLANE")}
    path = write(tmp_path, COLOURS[1].transpose(2, 0, 1), **attributes)
    np.testing.assert_array_equal(pixels(path), COLOURS[1:2])
    indexed = {"CLASS": np.bytes_("IMAGE"), "IMAGE_SUBCLASS": np.bytes_("IMAGE_INDEXED")}
    with pytest.raises(InvalidRequestError, match="palette"):
        HDF5Dataset(write(tmp_path, GREYS[0], **indexed), "images", "pt")


def test_an_attribute_that_contradicts_the_shape_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, COLOURS, data_format="channels_first")
    with pytest.raises(InvalidRequestError, match="by its attribute 'data_format', does not fit"):
        HDF5Dataset(path, "images", "pt")


# ---------------------------------------------------------------- by shape


def test_a_single_picture_is_one_image(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    path = write(tmp_path, picture)
    with pytest.warns(UserWarning, match=r"1 RGB image of 50 x 60 pixels .*'HWC' by its shape"):
        found = HDF5Dataset(path, "images", "pt")
    assert (len(found), found.names) == (1, ["0"])
    np.testing.assert_array_equal(pixels(path), picture[None])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_usual_layout_needs_no_word(tmp_path: Path, channels: int) -> None:
    array = COLOURS[..., [0, 1, 2, 0]][..., :channels]
    found = HDF5Dataset(write(tmp_path, array), "images", "pt")  # warnings are errors
    assert (found.layout, len(found)) == ("NHWC", 7)


@pytest.mark.parametrize(
    ("shape", "choices"),
    [
        ((7, 12, 9), ["'NHW': 7 grey images of 12 x 9", "'HWN': 9 grey images of 7 x 12"]),
        ((7, 3, 12, 9), ["'NCHW': 7 RGB images of 12 x 9", "'NCWH': 7 RGB images of 9 x 12"]),
        ((3, 12, 9, 7), ["'CHWN'"]),
        ((3, 12, 9, 3), ["'NHWC': 3 RGB images of 12 x 9", "'CHWN'"]),
        ((3, 12, 9), ["'CHW': 1 RGB image of 12 x 9", "'NHW': 3 grey images of 12 x 9"]),
        ((12, 4, 3), ["'NHW'"]),
        ((6, 75), ["'HW': 1 grey image of 6 x 75", "'N(HWC)': 6 RGB images of 5 x 5", "'N(CHW)'"]),
        ((12, 25), ["'HW': 1 grey image of 12 x 25", "'N(HW)': 12 grey images of 5 x 5"]),
    ],
)
def test_ambiguous_shapes_are_refused_with_the_choices(
    tmp_path: Path, shape: tuple[int, ...], choices: list[str]
) -> None:
    path = write(tmp_path, np.zeros(shape, np.uint8))
    with pytest.raises(InvalidRequestError, match=r"layout= .*--layout") as caught:
        HDF5Dataset(path, "images", "pt")
    assert all(choice in str(caught.value) for choice in choices), caught.value


@pytest.mark.parametrize("shape", [(), (75,), (2, 7, 12, 9, 3), (7, 12, 9, 2)])
def test_shapes_of_no_images_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path, np.zeros(shape, np.uint8))
    with pytest.raises(InvalidRequestError, match="no array of images has"):
        HDF5Dataset(path, "images", "pt")


# ---------------------------------------------------------------- indices and masks


class Tensor:
    """What a tensor of torch has: a shape, and a conversion to an array."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


MASK = [False, True, False, False, True, True, False]


@pytest.mark.parametrize(
    "wrap", [list, tuple, np.array, Tensor, lambda m: [np.bool_(x) for x in m]]
)
def test_a_mask_selects_the_places_of_true(tmp_path: Path, wrap: Any) -> None:
    path = write(tmp_path, COLOURS)
    found = HDF5Dataset(path, "images", "pt", img_indices=wrap(MASK))
    assert found.names == ["1", "4", "5"]
    np.testing.assert_array_equal(pixels(path, img_indices=wrap(MASK)), COLOURS[MASK])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.array(MASK[:5]), "must have 7 values, .* got 5"),
        ([True, False], "must have 7 values"),
        ([True, 3, 4], "both True or False and numbers"),
        (np.zeros(7, bool), "at least one image, got only False"),
        (np.array([[1], [2]]), r"must be a list of indices, .* got shape \(2, 1\)"),
        (np.array(2), r"got shape \(\)"),
        (2, "must be a list of indices, .* got 2"),
        ("12", "must be a list of indices"),
        ([1.5, 2.0], r"must be whole numbers, .* got 1\.5"),
        ([float("nan")], "got nan"),
        (["1", "2"], "got '1'"),
        ([None], "got None"),
        ([0, 1, 0, 1, 0, 0, 0], r"got a 0 or 1 for each of the 7 images .*np\.flatnonzero"),
        ({0, 2}, "must be a list of indices"),
        ([7], r"from 0 to 6, the images of 'images' in .* got \[7\]"),
        ([-1], "got \\[-1\\]"),
    ],
)
def test_what_is_neither_indices_nor_a_mask_is_refused(
    tmp_path: Path, given: Any, sentence: str
) -> None:
    with pytest.raises(InvalidRequestError, match=sentence):
        HDF5Dataset(write(tmp_path, COLOURS), "images", "pt", img_indices=given)


def test_whole_numbers_of_any_type_are_indices(tmp_path: Path) -> None:
    path = write(tmp_path, COLOURS)
    for given in ([5.0, 0], np.array([5, 0], np.uint8), range(5, -1, -5), iter([5, 0])):
        assert HDF5Dataset(path, "images", "pt", img_indices=given).names == ["5", "0"]


@pytest.mark.parametrize("name", ["units", "pool_axes"])
@pytest.mark.parametrize("mask", [[True, False], np.array([True, False]), [np.bool_(True)]])
def test_masks_of_units_are_refused_with_the_way_out(name: str, mask: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"got a mask .* np\.flatnonzero\(mask\)"):
        Reduction(**{name: mask})


@pytest.mark.parametrize("row", [True, np.True_, np.array(MASK), Tensor(True), 1.0, "1", [0, 1]])
def test_rows_of_a_dataset_are_whole_numbers(tmp_path: Path, row: Any) -> None:
    found = HDF5Dataset(write(tmp_path, COLOURS), "images", "pt")
    assert found[np.int64(1)].name == "1"
    with pytest.raises(InvalidRequestError, match=r"must be a whole number, .* np\.flatnonzero"):
        found[row]


def test_a_mask_given_to_torchs_subset_is_refused(tmp_path: Path) -> None:
    from torch.utils.data import Subset

    found = HDF5Dataset(write(tmp_path, COLOURS), "images", "pt")
    with pytest.raises(InvalidRequestError, match=r"np\.flatnonzero"):
        DataLoader(Subset(found, MASK), 2, "pt")
    chosen = DataLoader(Subset(found, list(np.flatnonzero(MASK))), 2, "pt")
    assert [str(name) for batch in chosen for name in batch] == ["1", "4", "5"]

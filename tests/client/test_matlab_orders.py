"""How features lie in MATLAB's memory: dimensions, order, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.matlab.orders import UnknownAxesError, find_order
from thingsvision_client.matlab.request import by_python_name, read_options
from thingsvision_client.values.records import ModuleInfo

MAP, LAST = ("channels", "height", "width"), ("height", "width", "channels")
CASES = [
    ("channels", (5, 3, 4), MAP, False, (3, 4, 5)),
    ("channels", (3, 4, 5), LAST, False, (3, 4, 5)),
    ("channels", (7, 2), ("tokens", "features"), False, (7, 2)),
    ("channels", (6,), ("features",), False, (1, 1, 6)),
    ("channels", (6,), ("",), False, (1, 1, 6)),
    ("channels", (6,), ("channels",), False, (1, 1, 6)),
    ("channels", (3, 4), ("height", "width"), False, (3, 4, 1)),
    ("channels", (), (), False, (1, 1, 1)),
    ("channels", (5, 3, 4), MAP, True, (1, 1, 60)),
    ("channels", (5, 3, 4), ("", "", ""), True, (1, 1, 60)),
    ("rows", (5, 3, 4), MAP, False, (60,)),
    ("rows", (2, 3, 4), ("calls", "tokens", "features"), False, (24,)),
    ("native", (5, 3, 4), ("", "", ""), False, (5, 3, 4)),
    ("native", (5, 3, 4), MAP, True, (60,)),
]


@pytest.mark.parametrize(("output_as", "shape", "axes", "flatten", "dims"), CASES)
def test_values_are_where_matlab_expects_them(
    output_as: str,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    flatten: bool,
    dims: tuple[int, ...],
) -> None:
    order = find_order(output_as, "m", shape, axes, flatten=flatten)
    assert order.dims == dims
    assert order.images_first == (output_as != "channels")
    rows = np.arange(2 * order.unit_count, dtype=np.float32).reshape(2, *shape)
    sent = order.new(2, np.float32)
    sent[:] = order.view(rows)
    flat = sent.reshape(2, -1)
    np.testing.assert_array_equal(flat, rows.reshape(2, -1)[:, order.unit_index() - 1])
    in_matlab = flat[0].reshape(dims, order="F")
    if output_as == "channels" and not flatten and len(shape) == 3:
        wanted = rows[0].transpose([axes.index(axis) for axis in LAST])
        np.testing.assert_array_equal(in_matlab, wanted)
    if output_as == "native":
        np.testing.assert_array_equal(in_matlab.ravel(), rows[0].ravel())


@pytest.mark.parametrize(
    "axes", [("", "", ""), ("calls", "tokens", "features"), ("channels", "", "")]
)
def test_unknown_axes_are_refused_with_both_ways_out(axes: tuple[str, ...]) -> None:
    with pytest.raises(UnknownAxesError, match=r"'native'.*'rows'"):
        find_order("channels", "m", (2, 3, 4), axes, flatten=False)


def module(name: str, axes: tuple[str, ...]) -> ModuleInfo:
    return ModuleInfo(
        name, "X", "", 1, "", 0, (1,) * len(axes), "", 1, True, "", "image", None, output_axes=axes
    )


def test_places_of_units_and_axes_count_from_one() -> None:
    given = {"Reduction": {"Pool": "max", "PoolAxes": [2, 3], "Units": 1, "Components": []}}
    reduction = read_options(given, None).reduction
    assert reduction is not None
    assert (tuple(reduction.pool_axes), tuple(reduction.units)) == ((1, 2), (0,))
    with pytest.raises(InvalidRequestError, match="`Units` must be whole numbers from 1, got 0"):
        read_options({"Reduction": {"Units": [0]}}, None)


def test_axes_can_be_named() -> None:
    given = {"reduction": {"pool": "mean", "pool_axes": ["height", "width"]}}
    same = read_options(given, [module("a", MAP), module("b", MAP)]).reduction
    assert same is not None
    assert tuple(same.pool_axes) == (1, 2)
    with pytest.raises(InvalidRequestError, match="different places"):
        read_options(given, [module("a", MAP), module("b", LAST)])
    with pytest.raises(InvalidRequestError, match=r"axes of module 'c' \(tokens, features\)"):
        read_options(given, [module("c", ("tokens", "features"))])


def test_names_of_matlab_and_of_python_are_the_same() -> None:
    given = {"BatchSize": 4, "token_extraction": [], "DTYPE": "float16"}
    assert by_python_name(given, ["batch_size", "token_extraction", "dtype"]) == {
        "batch_size": 4,
        "token_extraction": None,
        "dtype": "float16",
    }
    with pytest.raises(InvalidRequestError, match="'Size' is unknown; the valid names are BatchSi"):
        by_python_name({"Size": 4}, ["batch_size"])

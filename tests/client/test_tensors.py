import numpy as np
import pytest

from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.images.tensors import tensor_bytes

VALUES = [[0.5, -2.0, 3.25], [65504.0, 2**-14, -0.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64", ">f8"])
def test_values_that_float32_holds_arrive_as_they_are(dtype: str) -> None:
    array = np.array(VALUES, dtype)
    sent = np.frombuffer(tensor_bytes(array), "<f4").reshape(2, 3)
    np.testing.assert_array_equal(sent, array.astype("float32"))
    assert np.signbit(sent[1, 2])
    assert tensor_bytes(np.asfortranarray(array)) == tensor_bytes(array)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "bool"])
def test_whole_numbers_are_exact(dtype: str) -> None:
    array = np.array([[0, 1], [1, 0]], dtype)
    assert np.frombuffer(tensor_bytes(array), "<f4").tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.1]),
        np.array([1e300]),
        np.array([2**24 + 1]),
        np.array([2**64 - 1], "uint64"),
        np.array([-(2**63)]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_values_that_float32_would_change_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidRequestError, match="can't represent exactly: round them"):
        tensor_bytes(array)


@pytest.mark.parametrize("array", [np.array([1j]), np.array(["a"]), np.array([object()])])
def test_values_that_are_not_real_numbers_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidRequestError, match="must be real numbers, such as float32"):
        tensor_bytes(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite_are_refused(value: float, dtype: str) -> None:
    array = np.zeros((3, 4, 5), dtype)
    array[2, 1, 3] = array[2, 1, 4] = value
    with pytest.raises(InvalidRequestError, match=r"NaN or infinite \(2, .*\[2, 1, 3\]"):
        tensor_bytes(array)

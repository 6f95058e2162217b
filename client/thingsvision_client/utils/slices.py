"""Arrays of many dimensions to text files of matrices and back, under the library's names."""

from __future__ import annotations

from pathlib import Path

from ..arrays import Array
from ..calls.arguments import as_folder
from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..files import atomic_file
from ..formats import FEATURES
from ..formats.slices import read_slices, write_slices
from .writing import savable_array


@check_arguments
def tensor2slices(PATH: str | Path, file_name: str, features: Array) -> None:  # noqa: N803
    """Write an array of three or more dimensions to a text file, as matrices of its last two.

    The first line has the shape, and a comment follows each matrix. Values have enough digits to be
    read back exactly.

    Args:
        PATH: Folder for the file, created if missing.
        file_name: Name of the file.
        features: The array, images x at least two dimensions.

    Raises:
        InvalidRequestError: An array of fewer than three dimensions.

    Example:
        ```python
        from thingsvision_client import Client
        from thingsvision_client.utils.storing import tensor2slices

        extraction = Client().extract("torchvision/alexnet", "photos", "features.10")
        tensor2slices("results", "features.txt", extraction.features["features.10"])
        ```

    """
    from ..origins import write_origin
    from ..origins.replacing import warn_of_replaced

    array = savable_array(features, FEATURES)
    if array.ndim < 3:
        raise InvalidRequestError(
            f"`features` must have at least three dimensions, got shape {array.shape}: use "
            "save_features to write a matrix as txt."
        )
    path = as_folder("PATH", PATH) / file_name
    with warn_of_replaced(path):
        with atomic_file(path) as file:
            write_slices(file, array)
        write_origin(path, array)


@check_arguments
def slices2tensor(PATH: str | Path, file: str) -> Array:  # noqa: N803
    """Return the array that `tensor2slices` wrote, with the same shape, type and values.

    Args:
        PATH: Folder of the file.
        file: Name of the file.

    Returns:
        The array; float64 for files of the original library, which record no type.

    Raises:
        InvalidRequestError: A file that can't be read or is not complete.

    Example:
        ```python
        import numpy as np
        from thingsvision_client.utils.storing import slices2tensor, tensor2slices

        features = np.random.default_rng(0).normal(size=(4, 8, 6, 6))
        tensor2slices("results", "features.txt", features)
        assert np.array_equal(slices2tensor("results", "features.txt"), features)
        ```

    """
    return read_slices(as_folder("PATH", PATH) / file)

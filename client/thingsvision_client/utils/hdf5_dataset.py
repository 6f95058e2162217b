"""Images in an array of an HDF5 file, as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import overload

from ..images.pixel_array import PixelArray
from ..images.queue import ImageQueue, Reiterable
from .file_names import FILE_NAMES, write_lines
from .rows import DatasetImage, dataset_image
from .transforms import ServerTransforms, as_transforms, check_backend

_ALL = slice(None)


class HDF5Dataset:
    """Images in an array of an HDF5 file, such as NSD's `imgBrick`; an image's name is its index.

    Args:
        hdf5_fp: The HDF5 file.
        img_ds_key: Name of the array: uint8, images x height x width x channels (3 for RGB, or
            none for grey), or images x pixels of square RGB images.
        backend: `pt` or `tf`: the framework of the model, as the extractor's `get_backend()` says.
        transforms: What the extractor's `get_transformations` returned; None means the model's own
            preprocessing.
        img_indices: Images to use, in exactly this order; all by default.
        out_path: Folder for `file_names.txt`; None writes none.

    Raises:
        InvalidRequestError: A file or array that can't be read, or an index out of range.
        MissingDependencyError: h5py is not installed.

    Example:
        ```python
        import h5py
        import numpy as np
        from thingsvision_client import HDF5Dataset

        with h5py.File("images.h5", "w") as file:
            file["imgBrick"] = np.zeros((10, 32, 32, 3), "uint8")
        dataset = HDF5Dataset("images.h5", "imgBrick", "pt", img_indices=[3, 1])
        print(dataset.names)
        ```

    """

    root: Path | None = None

    def __init__(
        self,
        hdf5_fp: str | Path,
        img_ds_key: str,
        backend: str,
        transforms: ServerTransforms | None = None,
        img_indices: Sequence[int] | None = None,
        *,
        out_path: str | Path | None = None,
    ) -> None:
        self.transforms = as_transforms(transforms)
        self.backend = check_backend(backend)
        self._array = PixelArray(Path(hdf5_fp), img_ds_key)
        self.indices = self._array.check_indices(img_indices)
        if out_path is not None:
            write_lines(Path(out_path) / FILE_NAMES, self.names)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, row: int) -> DatasetImage: ...

    @overload
    def __getitem__(self, row: slice) -> list[DatasetImage]: ...

    def __getitem__(self, row: int | slice) -> DatasetImage | list[DatasetImage]:
        """Return the name of a row's image, which knows the image."""
        if isinstance(row, slice):
            return [self[place] for place in range(len(self))[row]]
        sent = self._array.image(self.indices[row])
        return dataset_image(sent, target=None, transforms=self.transforms, root=None)

    @property
    def names(self) -> list[str]:
        """The names of the rows: indices of the images in the file."""
        return [str(index) for index in self.indices]

    def queue(self, rows: slice = _ALL) -> ImageQueue:
        """Return the images of some rows, to be sent by a method of `Client` as PNG files.

        Args:
            rows: The rows to send; all by default.

        Returns:
            The images, each read only when it is sent.

        Example:
            ```python
            import h5py
            import numpy as np
            from thingsvision_client import Client, HDF5Dataset

            with h5py.File("images.h5", "w") as file:
                file["imgBrick"] = np.arange(4 * 32 * 32 * 3).reshape(4, 32, 32, 3).astype("uint8")
            dataset = HDF5Dataset("images.h5", "imgBrick", "pt")
            print(Client().rdm("torchvision/alexnet", dataset.queue(), "features.10").images)
            ```

        """
        indices = self.indices[rows]
        return ImageQueue(Reiterable(partial(self._array.images, indices)), len(indices))

"""Images in an array of an HDF5 file, as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, overload

from ..calls.arguments import as_folder, as_path, as_text
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..display.cards import Shown
from ..images.pixel_array import PixelArray
from ..images.queue import ImageQueue
from .file_names import FILE_NAMES, write_lines
from .joined_datasets import Joinable
from .rows import DatasetImage, FixedAttributes, row_at
from .transforms import as_transforms, check_backend

_ALL = slice(None)

_USUAL = "NHWC"


@check_arguments
class HDF5Dataset(Shown, FixedAttributes, Joinable):
    """Images in an array of an HDF5 file, such as NSD's `imgBrick`.

    Args:
        hdf5_fp: The HDF5 file.
        img_ds_key: Name of the array, uint8.
        backend: `pt` or `tf`: the framework of the model, as the extractor's `get_backend()` says.
        transforms: What an extractor's `get_transformations` returned, of this model or another, or
            a Compose of torchvision's steps; None means the model's own preprocessing.
        img_indices: Images to use, in exactly this order, or a mask with True or False for each
            image of the array; all by default.
        out_path: Folder for `file_names.txt`; None writes none.
        layout: A letter per axis of the array, in the order that h5py shows them: N images, H
            height, W width, C channels (1, 3 or 4). `NHWC` is usual; others are `NCHW`, `NHW`
            (grey), `HWC` (a single picture), and `N(HWC)` for square RGB images, each in one row.
            By default, attributes of the array decide (`layout`, `axes` and the like, names of
            dimensions, `MATLAB_class`, whose axes are reversed), else its shape if it is images x
            height x width x channels or height x width x channels. Anything else is refused.
        names: A name per image of the array, such as the stimuli's; by default the indices.

    Attributes:
        layout: The layout in use; `repr` says what the array was taken for, and why.

    Warns:
        UserWarning: An attribute or the shape decided for anything but `NHWC`.

    Raises:
        InvalidRequestError: A file or array that can't be read, an array whose layout can't be
            known, or an index out of range.
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

    _fields = frozenset({"backend", "layout", "indices"})
    _checked: ClassVar = {"transforms": as_transforms}

    def __init__(
        self,
        hdf5_fp: str | Path,
        img_ds_key: str,
        backend: str,
        transforms: Any = None,
        img_indices: Sequence[int] | Sequence[bool] | Any = None,
        *,
        out_path: str | Path | None = None,
        layout: str | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.transforms = as_transforms(transforms)
        self.backend = check_backend(backend)
        self._array = PixelArray(
            as_path("hdf5_fp", hdf5_fp), as_text("img_ds_key", img_ds_key), layout, names
        )
        self.layout = self._array.layout.axes
        if layout is None and self.layout != _USUAL:
            warn_caller(f"{self._array}; give layout= to choose another.")
        self.indices = self._array.check_indices(img_indices)
        if out_path is not None:
            write_lines(as_folder("out_path", out_path) / FILE_NAMES, self.names)

    def _facts(self) -> dict[str, Any]:
        return {
            "images": len(self),
            "array": self._array.called,
            "taken for": f"{self._array.layout}, {self.layout}",
            "backend": self.backend,
        }

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, row: int) -> DatasetImage: ...

    @overload
    def __getitem__(self, row: slice) -> list[DatasetImage]: ...

    def __getitem__(self, row: int | slice) -> DatasetImage | list[DatasetImage]:
        """Return the input of a row's image, which knows the image."""
        if isinstance(row, slice):
            return [self[place] for place in range(len(self))[row]]
        sent = self._array.image(row_at(self.indices, row))
        return DatasetImage(
            sent, target=None, transforms=self.transforms, root=None, backend=self.backend
        )

    @property
    def names(self) -> list[str]:
        """The names of the rows: given, or the indices of the images in the file."""
        return [self._array.name(index) for index in self.indices]

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
                file["imgBrick"] = np.arange(5 * 32 * 32 * 3).reshape(5, 32, 32, 3).astype("uint8")
            dataset = HDF5Dataset("images.h5", "imgBrick", "pt")
            print(Client().rdm("torchvision/alexnet", dataset.queue(), "features.10").images)
            ```

        """
        return self._array.queue(self.indices[rows])

    @property
    def place_count(self) -> int:
        """The number of images: none is ever left out."""
        return len(self)

    def place_rows(self, places: slice) -> list[DatasetImage]:
        """Return the rows at some places, which are those of the same numbers.

        Args:
            places: The places.

        Returns:
            The rows.

        Example:
            ```python
            import h5py
            import numpy as np
            from thingsvision_client import HDF5Dataset

            with h5py.File("images.h5", "w") as file:
                file["imgBrick"] = np.zeros((5, 32, 32, 3), np.uint8)
            print(HDF5Dataset("images.h5", "imgBrick", "pt").place_rows(slice(0, 2)))
            ```

        """
        return self[places]

    def place_queue(self, places: slice) -> ImageQueue:
        """Return the images at some places, to be sent, as `queue` does.

        Args:
            places: The places.

        Returns:
            The images.

        Example:
            ```python
            import h5py
            import numpy as np
            from thingsvision_client import HDF5Dataset

            with h5py.File("images.h5", "w") as file:
                file["imgBrick"] = np.zeros((5, 32, 32, 3), np.uint8)
            print(HDF5Dataset("images.h5", "imgBrick", "pt").place_queue(slice(0, 2)).count)
            ```

        """
        return self.queue(places)

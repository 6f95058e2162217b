"""Converts the library's `batches` to images to send: files, pixels, or a user's arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays import as_array
from ..errors import InvalidRequestError
from ..images.pictures import are_pictures, is_picture
from ..images.queue import ImageQueue, queue_images
from ..utils.data import DataLoader, HDF5Dataset, ImageBatch, ImageDataset
from ..utils.rows import (
    DatasetImage,
    queue_rows,
    read_batches,
    root_of,
    rows_in,
    rows_of,
    transforms_of,
)
from ..utils.transforms import ServerTransforms

if TYPE_CHECKING:
    from ..arrays import Array


_WHOLE = (HDF5Dataset, ImageDataset)

PictureFinder = Callable[[Any], "Sequence[Any] | None"]
"""Returns the images in memory of a batch, None for other batches."""


@dataclass(frozen=True)
class Batches:
    """Images in the order of their rows, and how many make a forward pass.

    `images` opens them anew; a second time it refuses what can be read only once. `input_shape` is
    the shape of the first input, if they are preprocessed already. `transforms` is the dataset's
    preprocessing, `root` is the folder of the images' names, if they are files. `rows` are the
    images of datasets, unless they are all of one.
    """

    images: Callable[[], ImageQueue]
    batch_size: int
    input_shape: tuple[int, ...] | None = None
    transforms: ServerTransforms = field(default_factory=ServerTransforms)
    root: Path | None = None
    rows: Sequence[DatasetImage] | None = None

    @property
    def are_inputs(self) -> bool:
        """Whether the images are preprocessed already."""
        return self.input_shape is not None


def batches_of(given: Any, *, is_own: bool = False) -> Batches:
    """Return what a DataLoader of this package, a batch of one, or any iterable of batches is.

    A batch of such an iterable is images x one input's shape, preprocessed already: an array of
    floats, a tensor, or the first of a tuple, such as (images, targets). A list of Pillow images,
    or a uint8 array of images x height x width x 3, is images, which the server preprocesses. Rows
    are named 0, 1, ... Forward passes have as many images as the first batch. Raises TypeError, and
    InvalidRequestError for no batches.

    If the network `is_own`, a user's, tensors are inputs, as in the library: those of uint8 raise
    InvalidRequestError.
    """
    if isinstance(given, ImageBatch) or (isinstance(given, DataLoader) and given.has_rows):
        return _of_loader(given)
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        raise TypeError(
            f"`batches` must be a DataLoader or an iterable of arrays, got {type(given)}"
        )
    batches, remaining = read_batches(given)
    if batches is not None:
        return _of_rows(batches)
    first = next(remaining, None)
    if first is None:
        raise InvalidRequestError("There are no batches to send.")
    return _of_arrays(given, first, remaining, pictures_of_own if is_own else pictures_in)


def dataset_batches(given: Any) -> Batches | None:
    """Return the batches of a loader of this package's datasets; None for anything else.

    The loader may be torch's. Raises TypeError for batches of which only the first are of a
    dataset.
    """
    if isinstance(given, ImageBatch) or (isinstance(given, DataLoader) and given.has_rows):
        return _of_loader(given)
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Iterator)):
        return None
    batches = None if rows_in(next(iter(given), None)) is None else read_batches(given)[0]
    return None if batches is None else _of_rows(batches)


def _of_loader(given: DataLoader | ImageBatch) -> Batches:
    is_loader = isinstance(given, DataLoader)
    size = given.batch_size if is_loader else len(given)
    rows = None if is_loader and isinstance(given.dataset, _WHOLE) else given.rows
    return Batches(given.queue, size, transforms=given.transforms, root=given.root, rows=rows)


def _of_rows(batches: list[Any]) -> Batches:
    rows, first_rows = rows_of(batches), rows_of(batches[:1])
    transforms, images = transforms_of(rows), partial(queue_rows, rows)
    root = root_of(rows)
    return Batches(images, len(first_rows), transforms=transforms, root=root, rows=rows)


def _of_arrays(
    given: Iterable[Any],
    first: Any,
    remaining: Iterator[Any],
    find_pictures: PictureFinder,
) -> Batches:
    started = iter([chain([first], remaining)])  # the first call continues this iteration

    def images() -> ImageQueue:
        again = next(started, None)
        if again is None and iter(given) is given:
            raise InvalidRequestError(
                "`batches` is a generator that was read already: create it again, or give a "
                "DataLoader or a list."
            )
        queue = queue_images(_rows(given if again is None else again, find_pictures))
        return replace(queue, here_count=_count_rows(given, find_pictures))

    pictures = find_pictures(first)
    if pictures is not None:
        return Batches(images, len(pictures))
    inputs = array_of(first)
    return Batches(images, len(inputs), input_shape=inputs.shape[1:])


def _rows(batches: Iterable[Any], find_pictures: PictureFinder) -> Iterator[tuple[str, Any]]:
    rows = (row for batch in batches for row in _rows_of(batch, find_pictures))
    return ((str(number), row) for number, row in enumerate(rows))


def _count_rows(batches: Iterable[Any], find_pictures: PictureFinder) -> int:
    """Return how many images there are, if all are here; 0 for what is read as it is sent."""
    if not isinstance(batches, (list, tuple)):
        return 0
    return sum(len(_rows_of(batch, find_pictures)) for batch in batches)


def _rows_of(batch: Any, find_pictures: PictureFinder) -> Sequence[Any] | Array:
    pictures = find_pictures(batch)
    return array_of(batch) if pictures is None else pictures


def pictures_of_own(batch: Any) -> Sequence[Any] | None:
    """Return the images in memory of a batch for a user's own network; None for other batches.

    Raises InvalidRequestError for uint8 tensors and rows of numbers, which THINGSvision would feed
    to the network as they are.
    """
    found = pictures_in(batch)
    for image in found or ():
        is_array = type(image).__module__ == "numpy" or not hasattr(image, "__array__")
        is_image = not hasattr(image, "shape") or len(image.shape) == 3
        if hasattr(image, "dtype") and not (is_array and is_image):
            raise InvalidRequestError(
                f"A batch has inputs of uint8 of shape {tuple(image.shape)}, which THINGSvision "
                "feeds to your network as they are, but a server takes inputs of floats: send "
                "batch.float(), or batch.astype('float32'), which has the same values. If they are "
                "images that the server should preprocess, send a numpy array of images x height x "
                "width x 3, such as batch.permute(0, 2, 3, 1).numpy()."
            )
    return found


def pictures_in(batch: Any) -> Sequence[Any] | None:
    """Return the images in memory of a batch, or of (images, targets); None for other batches."""
    if is_picture(batch):
        return [batch]
    if are_pictures(batch):
        return list(batch)
    if not isinstance(batch, (tuple, list)) or not batch:
        return None
    if all(is_picture(image) for image in batch):
        return batch
    first = batch[0]
    return pictures_in(first) if isinstance(first, (tuple, list)) or are_pictures(first) else None


def array_of(batch: Any) -> Array:
    """Return a user's batch as an array of images x one input's shape. Raises TypeError."""
    images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not hasattr(images, "__array__"):
        raise TypeError(
            "A batch (`batch`) must be an array or tensor of images x one input's shape, a list of "
            "Pillow images, or a tuple that begins with either, got "
            f"{_kind_of(batch, images)}: {_advice_for(images)}."
        )
    _refuse_alike(batch)
    array = as_array(images)
    if array.ndim < 2 or not len(array):
        raise InvalidRequestError(
            f"A batch (`batch`) must be images x one input's shape, such as N x 3 x 224 x 224, got "
            f"{array.shape}."
        )
    return array


def _kind_of(batch: Any, first: Any) -> str:
    if isinstance(first, Mapping):
        return f"{type(first).__name__} of {', '.join(map(repr, first))}"
    kind = type(batch).__name__
    if first is batch:
        return f"an empty {kind}" if isinstance(batch, (tuple, list)) else kind
    return f"a {kind} that begins with {type(first).__name__}"


def _advice_for(first: Any) -> str:
    if isinstance(first, Mapping) and first:
        return f"send (batch[{next(iter(first))!r}] for batch in batches), with the key of images"
    if isinstance(first, (str, Path)):
        return "for files, use load_batches(root, out_path, backend, batch_size, file_names=...)"
    return "preprocess the images, and stack them with np.stack or torch.stack"


def _refuse_alike(batch: Any) -> None:
    """Raise InvalidRequestError for a list of arrays of one shape, of which any may be images.

    Of (images, targets) the first is taken, so the others would be left out silently.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        return
    shapes = {tuple(one.shape) if hasattr(one, "__array__") else None for one in batch}
    shape = shapes.pop()
    if not shapes and shape is not None and len(shape) > 1:
        raise InvalidRequestError(
            f"A batch must be one array of images x one input's shape, got {len(batch)} arrays of "
            f"shape {shape}: stack single inputs with np.stack or torch.stack, join batches with "
            "np.concatenate or torch.cat, or send batch[0] if the others are not images."
        )

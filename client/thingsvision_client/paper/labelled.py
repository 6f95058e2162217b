"""Images and the class number of each, from the data loaders of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..arrays import as_array
from ..errors import InvalidRequestError
from ..utils.data import DataLoader, HDF5Dataset

if TYPE_CHECKING:
    from ..arrays import Array


@dataclass(frozen=True)
class LabelledImages:
    """Batches for an extractor; `targets`, images x 1, are known once all batches were read."""

    batches: Any
    targets: Callable[[], Array]


def labelled_images(data_loader: Any) -> LabelledImages:
    """Return the images and targets of a DataLoader, or of any iterable of (images, targets).

    Raises TypeError for anything else, and InvalidRequestError for images without targets.
    """
    if isinstance(data_loader, DataLoader):
        return _of_loader(data_loader)
    if not isinstance(data_loader, Iterable) or isinstance(data_loader, (str, bytes, Mapping)):
        raise TypeError(
            "`data_loader` must be what vision.load_dl returns or an iterable of (images, "
            f"targets), got {type(data_loader)}"
        )
    seen: list[Array] = []
    return LabelledImages(_note_targets(data_loader, seen), lambda: _join(seen))


def _of_loader(loader: DataLoader) -> LabelledImages:
    dataset = loader.dataset
    if isinstance(dataset, HDF5Dataset):
        raise InvalidRequestError(
            "An HDF5Dataset has no classes for targets: use get_extractor(...).extract_features, "
            "which returns features only."
        )
    return LabelledImages(loader, lambda: dataset.targets)


def _note_targets(batches: Iterable[Any], seen: list[Array]) -> Iterator[Any]:
    """Yield the images of batches, and collect their targets."""
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InvalidRequestError(
                "A batch of data_loader must be a pair (images, targets): for images alone, use "
                "get_extractor(...).extract_features."
            )
        images, targets = batch[0], as_array(batch[1])
        if targets.shape[:1] != as_array(images).shape[:1]:
            raise InvalidRequestError(
                "Images and targets of a batch must have the same length, got shapes "
                f"{tuple(images.shape)} and {targets.shape}."
            )
        seen.append(targets.reshape(len(targets), -1))
        yield images


def _join(seen: list[Array]) -> Array:
    import numpy as np

    return np.concatenate(seen)

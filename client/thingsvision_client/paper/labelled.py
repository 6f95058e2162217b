"""Images and the class number of each, from the data loaders of the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..arrays import as_array
from ..errors import BadImage, InvalidRequestError
from ..utils.data import DataLoader
from ..utils.rows import DatasetImage, ImageBatch, read_batches, rows_of, targets_of

if TYPE_CHECKING:
    from ..arrays import Array


@dataclass(frozen=True)
class LabelledImages:
    """Batches for an extractor; `targets`, images x 1, are known once all batches were read.

    `places` are the places of the images in the list that is sent, if some were left out before.
    """

    batches: Any
    targets: Callable[[], Array]
    places: Sequence[int] | None = None

    def targets_without(self, bad: Sequence[BadImage]) -> Array:
        """Return the targets of all images but those that can't be used."""
        targets, without = self.targets(), {one.place for one in bad}
        places = range(len(targets)) if self.places is None else self.places
        return targets[[row for row, place in enumerate(places) if place not in without]]


def labelled_images(data_loader: Any) -> LabelledImages:
    """Return the images and targets of a DataLoader, or of any iterable of (images, targets).

    Raises TypeError for anything else, and InvalidRequestError for images without targets.
    """
    if isinstance(data_loader, DataLoader) and data_loader.has_rows:
        places = getattr(data_loader.dataset, "places", None)
        return LabelledImages(data_loader, partial(targets_of, data_loader.rows), places)
    if not isinstance(data_loader, Iterable) or isinstance(data_loader, (str, bytes, Mapping)):
        raise TypeError(
            "`data_loader` must be what vision.load_dl returns or an iterable of (images, "
            f"targets), got {type(data_loader)}"
        )
    batches, remaining = read_batches(data_loader)
    if batches is None:
        seen: list[Array] = []
        return LabelledImages(_note_targets(remaining, seen), partial(_join, seen))
    if any(_has_labels(batch) for batch in batches):
        labels: list[Array] = []
        rows = list(_note_targets(batches, labels))
        return LabelledImages(rows, partial(_join, labels))
    return LabelledImages(batches, partial(targets_of, rows_of(batches)))


def _has_labels(batch: Any) -> bool:
    """Whether a batch of rows is a pair (rows, targets)."""
    rows = (DatasetImage, ImageBatch)
    return not isinstance(batch, rows) and not isinstance(batch[0], DatasetImage)


def _note_targets(batches: Iterable[Any], seen: list[Array]) -> Iterator[Any]:
    """Yield the images of batches, and collect their targets."""
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InvalidRequestError(
                "A batch of data_loader must be a pair (images, targets): for images alone, use "
                "get_extractor(...).extract_features."
            )
        images, targets = batch[0], as_array(batch[1])
        is_lazy = isinstance(images, ImageBatch)
        shape = (len(images),) if is_lazy else as_array(images).shape
        if targets.shape[:1] != shape[:1]:
            raise InvalidRequestError(
                "Images and targets of a batch must have the same length, got shapes "
                f"{shape} and {targets.shape}."
            )
        seen.append(targets.reshape(len(targets), -1))
        yield images


def _join(seen: list[Array]) -> Array:
    import numpy as np

    return np.concatenate(seen)

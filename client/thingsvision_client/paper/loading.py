"""Images and the numbers of their classes for a model of the paper's time; sends none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from ..utils.data import DataLoader, ImageDataset, ServerTransforms
from .image_sets import IMAGE_SETS, ImageSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class NumberedImages(ImageDataset):
    """Images whose classes a table tells, not their folders; `numbers` are by name."""

    numbers: Mapping[str, int]

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The class of each image, N x 1, by that table."""
        import numpy as np

        return np.array([[self.numbers[name]] for name in self.names], dtype=np.int64)


def load_dl(
    root: str | Path,
    out_path: str | Path,
    backend: str,
    batch_size: int,
    imagenet_train: bool | None = None,
    imagenet_val: bool | None = None,
    things: bool | None = None,
    things_behavior: bool | None = None,
    add_ref_imgs: bool | None = None,
    file_names: Sequence[str] | None = None,
    transforms: ServerTransforms | None = None,
) -> DataLoader:
    """Return the images below `root` for `Model.extract_features`; their order is in `out_path`.

    Folders in `root` are classes, sorted; without folders its sorted files. `file_names`, relative
    to `root`, gives exactly that order. `file_names.txt` is written to `out_path`, a line per row.
    `transforms` is what the model's `get_transformations` returned. One of these may be True:

    * `imagenet_train`: folders are synsets (some or all), ordered and numbered as in
      `LOC_synset_mapping.txt` in `root`.
    * `imagenet_val`: files without folders; `LOC_{name of root}_solution.csv` in `root` has their
      synsets, numbered as above.
    * `things`: folders are the concepts in `data/things_concepts.tsv`, in its order.
    * `things_behavior`: files without folders, `{item}.jpg` for the items in
      `data/item_names.tsv`, in its order.

    Raises InvalidRequestError, also for `add_ref_imgs`, which took images from outside of `root`.
    """
    if add_ref_imgs:
        raise InvalidRequestError(
            "add_ref_imgs took images from outside of root: copy each into the folder of its "
            "concept instead (aardvark.jpg into aardvark/, where it comes first), and leave it out."
        )
    flags = {
        "imagenet_train": imagenet_train,
        "imagenet_val": imagenet_val,
        "things": things,
        "things_behavior": things_behavior,
    }
    wanted = _wanted(flags, Path(root), file_names)
    kind = ImageDataset if wanted.numbers is None else NumberedImages
    dataset = kind(root, out_path, backend, wanted.class_names, wanted.file_names, transforms)
    if wanted.classes:
        dataset.classes = list(wanted.classes)
    if isinstance(dataset, NumberedImages) and wanted.numbers is not None:
        dataset.numbers = wanted.numbers
    return DataLoader(dataset, batch_size, backend)


def _wanted(
    flags: Mapping[str, bool | None], root: Path, file_names: Sequence[str] | None
) -> ImageSet:
    chosen = [flag for flag, is_on in flags.items() if is_on]
    if len(chosen) > 1:
        raise InvalidRequestError(f"Of the flags, {', '.join(chosen)} are True: give one.")
    if not root.is_dir():
        raise InvalidRequestError(f"There is no folder {str(root)!r}.")
    return IMAGE_SETS[chosen[0]](root, file_names) if chosen else ImageSet(file_names=file_names)

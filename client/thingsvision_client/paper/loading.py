"""Images and their class numbers, as a data loader for the paper's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..images.queue import ImageQueue
from ..utils.data import DataLoader, ImageDataset
from ..utils.rows import DatasetImage, ImageBatch, targets_of
from .image_sets import IMAGE_SETS, ImageSet

if TYPE_CHECKING:
    from ..arrays import Array


class LabelledDataset(ImageDataset):
    """Images and their class numbers: its items, and the batches of its loader, are pairs."""

    def __getitem__(self, row: Any) -> Any:
        """Return the input of a row's image and its class number, an array of one; see `row`."""
        found = super().__getitem__(row)
        return found if isinstance(row, slice) else (found, targets_of([found])[0])

    def make_batch(
        self, rows: Sequence[DatasetImage], queue: ImageQueue | None = None
    ) -> tuple[ImageBatch, Array]:
        """Return the inputs of rows and their class numbers, images x 1."""
        return ImageBatch(rows, queue), targets_of(rows)


class NumberedImages(LabelledDataset):
    """Images whose classes are in a table instead of folders; `numbers` are by image name."""

    numbers: Mapping[str, int]

    def class_number(self, name: str) -> int:
        """Return the class number of an image, from the table."""
        return self.numbers[name]


@check_arguments
def load_dl(
    root: str | Path,
    out_path: str | Path | None = None,
    backend: str = "pt",
    batch_size: int | None = None,
    imagenet_train: bool | None = None,
    imagenet_val: bool | None = None,
    things: bool | None = None,
    things_behavior: bool | None = None,
    add_ref_imgs: bool | None = None,
    file_names: Sequence[str] | None = None,
    transforms: Any = None,
    *,
    apply_transforms: bool = True,
    clip: bool = False,
) -> DataLoader:
    """Return a data loader of the images below a folder, and write their order to `file_names.txt`.

    At most one of the flags may be True. Lists of THINGS are read from the folder `data`.

    Args:
        root: Folder of images, or of class folders, which are then numbered in sorted order.
        out_path: Folder for `file_names.txt`, which has the name of each row's image; None writes
            none.
        backend: `pt` or `tf`, as in the model.
        batch_size: Images in a batch, at least 1; there is no default.
        imagenet_train: Folders are synsets (some or all), ordered and numbered as in
            `LOC_synset_mapping.txt` in `root`.
        imagenet_val: There are no folders; `LOC_{name of root}_solution.csv` in `root` has the
            synset of each image, numbered as above.
        things: Folders are the concepts of `data/things_concepts.tsv`, in its order.
        things_behavior: Images are `{item}.jpg` for the items of `data/item_names.tsv`, in its
            order.
        add_ref_imgs: Not supported; the error says what to do instead.
        file_names: Images relative to `root`, in exactly this order; all, sorted, by default.
        transforms: What a model's `get_transformations` returned, of this model or another, or a
            Compose of torchvision's steps; None means the model's own preprocessing.
        apply_transforms: Of THINGSvision 0.x: must be True, since images are always preprocessed.
        clip: Of THINGSvision 0.x: has no effect.

    Returns:
        The batches, for `Model.extract_features`.

    Raises:
        InvalidRequestError: Files or names that do not exist or don't fit, or several flags.

    Example:
        ```python
        from thingsvision_client import vision

        batches = vision.load_dl("images", "results", backend="pt", batch_size=64)
        print(len(batches), batches.dataset.classes)
        ```

    """
    if batch_size is None:
        raise InvalidRequestError("`batch_size` must be a number of images, got None.")
    if not apply_transforms:
        raise InvalidRequestError(
            f"`apply_transforms` must be True, got {apply_transforms!r}: models take images that "
            "are preprocessed. To preprocess on your own, pass arrays of ready inputs to "
            "extract_features, or give steps as transforms=Compose([...])."
        )
    dataset = image_dataset(
        root,
        out_path,
        backend,
        imagenet_train=imagenet_train,
        imagenet_val=imagenet_val,
        things=things,
        things_behavior=things_behavior,
        add_ref_imgs=add_ref_imgs,
        file_names=file_names,
        transforms=transforms,
    )
    return DataLoader(dataset, batch_size, backend)


def image_dataset(
    root: str | Path,
    out_path: str | Path | None,
    backend: str = "pt",
    imagenet_train: bool | None = None,
    imagenet_val: bool | None = None,
    things: bool | None = None,
    things_behavior: bool | None = None,
    add_ref_imgs: bool | None = None,
    file_names: Sequence[str] | None = None,
    transforms: Any = None,
) -> ImageDataset:
    """Return the dataset of `load_dl`: THINGSvision 1.x has it as `dataset.ImageDataset`.

    Args:
        root: As in `load_dl`, and so are the others.
        out_path: Folder for `file_names.txt`, or None.
        backend: `pt` or `tf`.
        imagenet_train: Folders are synsets.
        imagenet_val: There are no folders; a table has the synset of each image.
        things: Folders are the concepts of THINGS.
        things_behavior: Images are those of THINGS' behavioral experiments.
        add_ref_imgs: Not supported.
        file_names: Images relative to `root`, in exactly this order.
        transforms: What the model's `get_transformations` returned.

    Returns:
        The dataset.

    Raises:
        InvalidRequestError: As `load_dl`.

    Example:
        ```python
        from thingsvision_client.dataloader import DataLoader
        from thingsvision_client.dataset import ImageDataset

        dataset = ImageDataset(root="images", out_path="results", backend="pt")
        print(len(DataLoader(dataset, batch_size=2, backend="pt")))
        ```

    """
    if add_ref_imgs:
        raise InvalidRequestError(
            "add_ref_imgs is not supported, since its images lie outside root: copy each into the "
            "folder of its concept (aardvark.jpg into aardvark/, where it comes first) instead."
        )
    flags = {
        "imagenet_train": imagenet_train,
        "imagenet_val": imagenet_val,
        "things": things,
        "things_behavior": things_behavior,
    }
    return _open_dataset(
        _image_set(flags, Path(root), file_names), root, out_path, backend, transforms=transforms
    )


def _open_dataset(
    image_set: ImageSet,
    root: str | Path,
    out_path: str | Path | None,
    backend: str,
    *,
    transforms: Any,
) -> ImageDataset:
    kind = LabelledDataset if image_set.numbers is None else NumberedImages
    dataset = kind(
        root,
        out_path,
        backend,
        class_names=image_set.class_names,
        file_names=image_set.file_names,
        transforms=transforms,
    )
    if image_set.classes:
        vars(dataset)["classes"] = list(image_set.classes)
    if isinstance(dataset, NumberedImages) and image_set.numbers is not None:
        vars(dataset)["numbers"] = image_set.numbers
    return dataset


def _image_set(
    flags: Mapping[str, bool | None], root: Path, file_names: Sequence[str] | None
) -> ImageSet:
    chosen = [flag for flag, is_on in flags.items() if is_on]
    if len(chosen) > 1:
        raise InvalidRequestError(f"Only one flag may be True, got {', '.join(chosen)}.")
    if not root.is_dir():
        raise InvalidRequestError(f"There is no folder {str(root)!r}.")
    return IMAGE_SETS[chosen[0]](root, file_names) if chosen else ImageSet(file_names=file_names)

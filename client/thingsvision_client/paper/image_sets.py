"""The images of ImageNet and THINGS that the paper's flags select.

ImageNet is as on Kaggle, with its lists in the images' folder; the lists of THINGS are in the
folder `data` of the working directory.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.signatures import check_arguments
from ..errors import InvalidRequestError
from ..images.folder import class_folders, image_names

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DATA = Path("data")

SYNSETS = "LOC_synset_mapping.txt"

_MOST_NAMED = 5

Names = Sequence[str]


@dataclass(frozen=True)
class ImageSet:
    """Images and their order; None means as found.

    `classes` are all classes of a list, in the order of their numbers; empty if the folders are the
    classes. `numbers` are class numbers by image name; None if folders have them.
    """

    class_names: Names | None = None
    file_names: Names | None = None
    classes: Names = ()
    numbers: Mapping[str, int] | None = None


@check_arguments
def load_item_names(folder: str | Path = "./data") -> npt.NDArray[np.str_]:
    """Return the names of the items of THINGS, from `item_names.tsv`.

    Args:
        folder: Folder of the file.

    Returns:
        The column `uniqueID`, items in the order of the file.

    Raises:
        InvalidRequestError: A file that can't be read, or has no such column.

    Example:
        ```python
        from pathlib import Path
        from thingsvision_client import vision

        Path("data").mkdir()
        Path("data/item_names.tsv").write_text("uniqueID aardvark abacus".replace(" ", chr(10)))
        print(vision.load_item_names("data"))
        ```

    """
    import numpy as np

    return np.array(_unique_ids(Path(folder) / "item_names.tsv"))


def imagenet_train(root: Path, file_names: Names | None) -> ImageSet:
    """Return synset folders, ordered and numbered as in the list of synsets."""
    synsets = _synsets(root)
    if strange := [folder for folder in class_folders(root) if folder not in synsets]:
        raise InvalidRequestError(
            f"Folders in {root} must be in {SYNSETS}; these are not: {strange}."
        )
    folders = sorted(class_folders(root), key=synsets.__getitem__)
    return ImageSet(folders, file_names, list(synsets))


def imagenet_val(root: Path, file_names: Names | None) -> ImageSet:
    """Return files whose synsets are in a table."""
    synsets = _synsets(root)
    table = root / f"LOC_{root.resolve().name}_solution.csv"
    rows = _columns(table, ",", "ImageId", "PredictionString")
    solutions = {image: text.partition(" ")[0] for image, text in rows}
    names = image_names(root, None, file_names)
    numbers = {}
    for name in names:
        number = synsets.get(solutions.get(Path(name).stem, ""))
        if number is None:
            fault = f"{table.name} and {SYNSETS} have no class for {name!r}."
            raise InvalidRequestError(fault, subject=name)
        numbers[name] = number
    return ImageSet(None, names, list(synsets), numbers)


def things(root: Path, file_names: Names | None) -> ImageSet:
    """Return concept folders in the order of their list."""
    concepts, folders = _unique_ids(DATA / "things_concepts.tsv"), class_folders(root)
    missing, strange = sorted({*concepts} - {*folders}), sorted({*folders} - {*concepts})
    if missing or strange:
        raise InvalidRequestError(
            f"{root} lacks {len(missing)} concepts of things_concepts.tsv {missing[:_MOST_NAMED]}, "
            f"and has {len(strange)} folders that are not concepts {strange[:_MOST_NAMED]}: "
            "leave out things=True to use the folders as they are, sorted."
        )
    return ImageSet(concepts, file_names)


def things_behavior(_root: Path, file_names: Names | None) -> ImageSet:
    """Return the files of items in the order of their list."""
    if file_names is not None:
        raise InvalidRequestError(
            "things_behavior uses the order of item_names.tsv: leave out file_names or the flag."
        )
    return ImageSet(file_names=[f"{item}.jpg" for item in load_item_names(DATA)])


IMAGE_SETS: Mapping[str, Callable[[Path, Names | None], ImageSet]] = {
    "imagenet_train": imagenet_train,
    "imagenet_val": imagenet_val,
    "things": things,
    "things_behavior": things_behavior,
}
"""By flag: images of a folder and a user's own order. Each raises InvalidRequestError."""


def _synsets(root: Path) -> dict[str, int]:
    """Return ImageNet's classes and their numbers."""
    lines = [line for line in _read(root / SYNSETS).splitlines() if line.strip()]
    return {line.split()[0]: number for number, line in enumerate(lines)}


def _unique_ids(path: Path) -> list[str]:
    return [unique_id for (unique_id,) in _columns(path, "\t", "uniqueID")]


def _columns(path: Path, delimiter: str, *wanted: str) -> list[tuple[str, ...]]:
    rows = list(csv.DictReader(StringIO(_read(path), newline=""), delimiter=delimiter))
    if not rows or any(row.get(column) is None for row in rows for column in wanted):
        raise InvalidRequestError(f"{path} must be a table with the columns {', '.join(wanted)}.")
    return [tuple(row[column] for column in wanted) for row in rows]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"Can't read {path}, which this flag needs: {error}") from error

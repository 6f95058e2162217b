"""Images of a study, in the order of their rows; opens no image and knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidRequestError
from ..folder import image_names
from ..preprocessing import PreprocessingOverrides
from ..records import Preprocessing

BACKENDS = ("pt", "tf")

FILE_NAMES = "file_names.txt"


@dataclass(frozen=True, repr=False)
class ServerTransforms:
    """Stands for the model's own preprocessing, which the server applies, and changes of it.

    `own` is None where the server tells it only with the features.
    """

    overrides: PreprocessingOverrides | None = None
    own: Preprocessing | None = None

    def __repr__(self) -> str:
        steps = " ".join(self.own.description.split()) if self.own else ""
        own = f"the model's own, {steps}" if steps else "the model's own"
        changes = f", but with {self.overrides}" if self.overrides else ""
        return f"ServerTransforms({own}{changes})"


class ImageDataset:
    """The images below a folder; writes `file_names.txt` to `out_path`, a line per row.

    Folders in `root` are classes (sorted, or `class_names` in that order), each walked sorted;
    without folders its sorted files. `file_names`, relative to `root`, gives exactly that order.
    `transforms` is None for the model's own preprocessing, or what an extractor's
    `get_transformations` returned; the server applies it. Raises InvalidRequestError, also for
    names that are not there.
    """

    def __init__(
        self,
        root: str | Path,
        out_path: str | Path,
        backend: str,
        class_names: Sequence[str] | None = None,
        file_names: Sequence[str] | None = None,
        transforms: ServerTransforms | None = None,
    ) -> None:
        if transforms is not None and not isinstance(transforms, ServerTransforms):
            raise InvalidRequestError(
                "transforms of your own can't run on the server: leave them out, or pass what "
                "extractor.get_transformations(...) returns, for the model's own preprocessing "
                "or sizes that you choose."
            )
        self.transforms = transforms or ServerTransforms()
        self.backend = _checked_backend(backend)
        self.root = Path(root)
        self.names: list[str] = image_names(self.root, class_names, file_names)
        write_lines(Path(out_path) / FILE_NAMES, self.names)

    def __len__(self) -> int:
        return len(self.names)


class DataLoader:
    """A dataset and the number of its images in one forward pass, for reproducible bits.

    `len` is the number of batches; iterating gives the names of the images of each.
    """

    def __init__(self, dataset: ImageDataset, batch_size: int, backend: str) -> None:
        if not isinstance(dataset, ImageDataset):
            raise TypeError(f"dataset is an ImageDataset, not {type(dataset).__name__}")
        if batch_size < 1:
            raise InvalidRequestError(f"batch_size is at least 1, not {batch_size}.")
        if _checked_backend(backend) != dataset.backend:
            raise InvalidRequestError(
                f"backend is {dataset.backend!r} in the dataset, but {backend!r} here."
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.backend = backend

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[list[str]]:
        for start in range(0, len(self.dataset), self.batch_size):
            yield self.dataset.names[start : start + self.batch_size]


def write_lines(path: Path, names: Sequence[str]) -> None:
    """Write a line per row of features. Raises InvalidRequestError for a name with a line break."""
    if broken := [name for name in names if "\n" in name or "\r" in name]:
        what = f"{broken[0]!r} has a line break, but {path.name} has a line per row"
        raise InvalidRequestError(f"{what}: change it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{name}\n" for name in names).encode())


def _checked_backend(backend: Any) -> str:
    if backend not in BACKENDS:
        raise InvalidRequestError(f"backend is one of {', '.join(BACKENDS)}, not {backend!r}.")
    return str(backend)

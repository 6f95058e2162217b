"""Images of a study, in the order of their rows; opens no image and knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidRequestError
from ..folder import image_names

BACKENDS = ("pt", "tf")

FILE_NAMES = "file_names.txt"


@dataclass(frozen=True)
class ServerTransforms:
    """Stands for the model's own preprocessing, which the server applies."""


class ImageDataset:
    """The images below a folder; writes `file_names.txt` to `out_path`, a line per row.

    Folders in `root` are classes (sorted, or `class_names` in that order), each walked sorted;
    without folders its sorted files. `file_names`, relative to `root`, gives exactly that order.
    `transforms` is None or what an extractor's `get_transformations` returned: the server applies
    the model's own preprocessing. Raises InvalidRequestError, also for names that are not there.
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
                "transforms of your own can't run on the server: leave them out, or pass "
                "extractor.get_transformations() for the model's own preprocessing."
            )
        self.backend = _checked_backend(backend)
        self.root = Path(root)
        self.names: list[str] = image_names(self.root, class_names, file_names)
        self._write_names(Path(out_path))

    def __len__(self) -> int:
        return len(self.names)

    def _write_names(self, folder: Path) -> None:
        if broken := [name for name in self.names if "\n" in name or "\r" in name]:
            raise InvalidRequestError(
                f"{broken[0]!r} has a line break, but {FILE_NAMES} has a line per image: rename it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name}\n" for name in self.names)
        (folder / FILE_NAMES).write_bytes(lines.encode())


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


def _checked_backend(backend: Any) -> str:
    if backend not in BACKENDS:
        raise InvalidRequestError(f"backend is one of {', '.join(BACKENDS)}, not {backend!r}.")
    return str(backend)

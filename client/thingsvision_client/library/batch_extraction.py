"""The library's loop over a user's own data pipeline, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BatchExtraction:
    """Gives the features of batches in a `with` block; made by `Extractor.batch_extraction`.

    `extract` is called with (batch, flatten_acts).
    """

    extract: Callable[[Any, bool], Any]

    def __enter__(self) -> BatchExtraction:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to release: each batch was its own call."""

    def extract_batch(self, batch: Any, flatten_acts: bool = False) -> Any:
        """Return the features of one batch, from one forward pass.

        `batch` is an array or tensor of images x one input's shape, that you preprocessed, or what
        iterating a DataLoader of this package gives. `flatten_acts` gives images x (everything
        else, C order).
        """
        return self.extract(batch, flatten_acts)

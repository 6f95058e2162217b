"""Datasets that `+` joins, as torch's datasets."""

from __future__ import annotations

from typing import Any

from ..errors import MissingDependencyError
from .item_batches import is_indexed


class Joinable:
    """A dataset whose sum with another is torch's ConcatDataset, whose rows are those of both."""

    def __add__(self, other: Any) -> Any:
        """Return the rows of this dataset, then those of another.

        Raises MissingDependencyError without torch.
        """
        if not is_indexed(other) or isinstance(other, (list, tuple)):
            return NotImplemented
        try:
            from torch.utils.data import ConcatDataset
        except ImportError as error:
            raise MissingDependencyError(
                "The sum of datasets is torch's ConcatDataset: pip install torch, or extract the "
                "features of each dataset and join them with np.concatenate."
            ) from error
        parts: list[Any] = [self, other]
        return ConcatDataset(parts)

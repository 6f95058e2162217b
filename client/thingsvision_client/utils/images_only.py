"""The images alone of torch's DataLoader that gives pairs of images and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..calls.caller import warn_caller


class ImageOnlyDataloaderModifier:
    """Has a DataLoader of PyTorch give images alone within a `with` block, if it gives pairs.

    Extractors need no such thing: of pairs, they take the images.

    Args:
        dataloader: A `torch.utils.data.DataLoader`.

    Attributes:
        dataloader: The loader.
        should_replace: Whether its `collate_fn` is replaced within the block.
        new_collate_fn: What replaces it.
        original_collate_fn: What was replaced, or None.

    Example:
        ```python
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        from thingsvision_client.core.extraction.torch import ImageOnlyDataloaderModifier

        images, labels = torch.zeros(4, 3, 8, 8), torch.arange(4)
        loader = DataLoader(TensorDataset(images, labels), batch_size=2)
        with ImageOnlyDataloaderModifier(loader) as images_only:
            print(next(iter(images_only)).shape)
        ```

    """

    def __init__(self, dataloader: Any) -> None:
        self.dataloader = dataloader
        self.new_collate_fn: Callable[..., Any] = self._images_only_collate
        self.original_collate_fn: Callable[..., Any] | None = None
        self.should_replace = False

    @staticmethod
    def _images_only_collate(batch: Sequence[Any]) -> Any:
        """Return the first entries of the items as one tensor."""
        import torch

        return torch.stack([item[0] for item in batch])

    def _check_dataloader_format(self) -> bool:
        """Whether the first batch is a pair, such as images and labels."""
        first = next(iter(self.dataloader))
        return isinstance(first, (tuple, list)) and len(first) == 2

    def __enter__(self) -> Any:
        self.should_replace = self._check_dataloader_format()
        if self.should_replace:
            warn_caller(
                "The dataloader is not in the correct format, since its batches are pairs: only "
                "their images are used."
            )
            self.original_collate_fn = self.dataloader.collate_fn
            self.dataloader.collate_fn = self.new_collate_fn
        return self.dataloader

    def __exit__(self, *_: object) -> None:
        if self.should_replace:
            self.dataloader.collate_fn = self.original_collate_fn

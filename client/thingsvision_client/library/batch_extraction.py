"""The library's loop over a user's own data pipeline, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BatchExtraction:
    """Gives the features of batches in a `with` block; made by `Extractor.batch_extraction`.

    `extract` is called with a batch and `flatten_acts`.

    Example:
        ```python
        from thingsvision_client import get_extractor, load_batches

        extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
        with extractor.batch_extraction(module_names=["features.3", "features.10"]) as e:
            for batch in load_batches("photos", "results", extractor.get_backend(), batch_size=2):
                print({name: rows.shape for name, rows in e.extract_batch(batch).items()})
        ```

    """

    extract: Callable[..., Any]

    def __enter__(self) -> BatchExtraction:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to release: each batch was its own call."""

    def extract_batch(self, batch: Any, flatten_acts: bool = False) -> Any:
        """Return the features of one batch, from one forward pass.

        Args:
            batch: An array or tensor of images x one input's shape, that you preprocessed, or what
                iterating a DataLoader of this package gives.
            flatten_acts: Return images x (everything else, C order); by default the activations'
                own shape.

        Returns:
            Images x shape, float32, or a dict of such arrays if several modules were named.

        Raises:
            UnknownModuleError: The model has no such module.
            InvalidRequestError: The model can't take this batch.
            TypeError: `batch` is not a batch.

        Example:
            ```python
            import numpy as np
            from thingsvision_client import get_extractor

            extractor = get_extractor("alexnet", pretrained=True, device=None, source="torchvision")
            batch = np.zeros((4, 3, 224, 224), np.float32)  # yours: 4 inputs
            with extractor.batch_extraction("features.10") as e:
                print(e.extract_batch(batch, flatten_acts=True).shape)
            ```

        """
        return self.extract(batch, flatten_acts=flatten_acts)

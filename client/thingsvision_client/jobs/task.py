"""The task of one call: model, modules, images and options; the same call makes the same task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..formats import Column
from ..images.queue import ImageQueue
from ..origins import Request, options_to_json
from ..values.model import Model
from ..values.options import ExtractOptions

if TYPE_CHECKING:  # it loads pyarrow
    from ..client import Client
    from ..rpc.feature_stream import FeatureStream


@dataclass(frozen=True)
class Task:
    """Features of modules for images.

    `images` opens the images anew, in the order of the rows. `flatten` gives images x (everything
    else, C order). `root` is the folder of the images' names, None if they are not files.
    """

    model: Model
    modules: tuple[str, ...]
    images: Callable[[], ImageQueue]
    options: ExtractOptions
    flatten: bool = False
    root: Path | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the call chose, as JSON values, without the model and the images."""
        return {
            "modules": list(self.modules),
            "flatten": self.flatten,
            **options_to_json(self.options),
        }

    def columns(self, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Column]:
        """Return the columns as written, by module, from the columns that the server sends."""
        return {
            module: Column(
                module,
                (prod(one["shape"]),) if self.flatten else tuple(one["shape"]),
                one["dtype"],
            )
            for module, one in given.items()
        }

    def request(self, batch_size: int) -> Request:
        """Return the request for the features' origin, with the server's batch size."""
        return Request(batch_size, self.options, self.root)

    def stream(
        self, client: Client, queue: ImageQueue, on_wait: Callable[[str], object] | None = None
    ) -> FeatureStream:
        """Return the features of these images as they arrive; `on_wait` is as in FeatureStream."""
        stream = client.stream(
            self.model, queue, self.modules, on_error="quiet", **vars(self.options)
        )
        stream.on_wait = on_wait
        return stream

    def announcement(
        self, client: Client, queue: ImageQueue, on_wait: Callable[[str], object] | None = None
    ) -> FeatureStream:
        """Return a stream without images, whose header says what would compute the features."""
        alone = replace(self, options=replace(self.options, streams=1))
        return alone.stream(client, replace(queue, images=(), count=0), on_wait)

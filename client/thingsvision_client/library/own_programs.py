"""A PyTorch network of the user's process, and the programs of it that a server has.

A program takes inputs of one shape, so a network is sent anew when inputs of another shape come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..client import Client
from ..errors import InvalidRequestError
from ..values.model import Model
from .exporting import InputShape, export_torch

WAITING = Model("own", "not-sent")
"""Stands for the model of a network that was not sent yet."""


@dataclass
class OwnNetwork:
    """A network, how it is called, and its models on the server by the shape of their inputs.

    `for_images` is the model that gets preprocessed images, of the shape `image_shape`; None if the
    network did not run with such inputs, for which `refusal` is the reason. `share` says whether
    others may use the programs.
    """

    given: Any
    forward_fn: Callable[..., Any] | None = None
    share: bool = False
    for_images: Model | None = None
    image_shape: InputShape = ()
    refusal: str = ""
    by_shape: dict[tuple[int, ...], Model] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without a network that was sent: another process has the server's."""
        is_sent = self.for_images is not None or bool(self.by_shape)
        return vars(replace(self, given=None, forward_fn=None) if is_sent else self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def send(self, client: Client, shape: tuple[int, ...] | None) -> Model:
        """Return the model for inputs of a shape, sent if need be; None stands for images.

        Raises InvalidRequestError for a network that can't be sent for that shape.
        """
        if shape is None:
            if self.for_images is None:
                raise InvalidRequestError(self.refusal)
            return self.for_images
        if self.for_images is not None and (self.given is None or self._takes(shape)):
            return self.for_images
        if shape not in self.by_shape:
            self.by_shape[shape] = self._upload(client, shape)
        return self.by_shape[shape]

    def _takes(self, shape: Sequence[int]) -> bool:
        return len(shape) == len(self.image_shape) and all(
            size in (None, wanted) for size, wanted in zip(self.image_shape, shape, strict=True)
        )

    def _upload(self, client: Client, shape: tuple[int, ...]) -> Model:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{type(self.given).__name__}.pt2"
            export_torch(self.given, path, input_shape=shape, forward_fn=self.forward_fn)
            return client.upload_model(path, share=self.share)

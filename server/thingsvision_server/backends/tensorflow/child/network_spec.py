"""Builds the network that a request names, alike each time and of a known size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from . import archives
from .applications import Application
from .build_thread import build_in_thread

T = TypeVar("T")

_SIZE_WHERE_OPEN = (224, 224, 3)
"""Of classes that take any size unless told, as MobileNetV3's: what they were trained at."""


def on_device(device: str) -> Any:
    """Return a context in which TensorFlow puts what it makes on a device."""
    import tensorflow as tf

    return tf.device(device)


@dataclass(frozen=True)
class NetworkSpec:
    """The network that a request is about."""

    package: str
    name: str
    published: bool
    archive: str
    options: list[tuple[str, Any]]

    @property
    def _application(self) -> Application:
        return Application(self.package, self.name, dict(self.options))

    @property
    def _family(self) -> Any:
        return None if self.archive else self._application.family

    @property
    def family_name(self) -> str:
        """The module of its family; empty for an archive, whose pixels stay as they are."""
        return self._family.__name__ if self._family else ""

    def preprocess(self, batch: Any) -> Any:
        """Return pixels of 0 to 255 as the network takes them."""
        return self._family.preprocess_input(batch) if self._family else batch

    def describe(self) -> tuple[Any, dict[str, str]]:
        """Return the network without its weights, and the file that Keras publishes for it."""
        return self._with_size(NetworkSpec._describe)

    def _describe(self) -> tuple[Any, dict[str, str]]:
        if self.archive:
            return archives.build(self.archive), {}
        return self._application.describe(self.published)

    def build(self, device: str, file: str, seed: int) -> Any:
        """Return the network on a device, with the weights of a file, or drawn from a seed."""

        def build(spec: NetworkSpec) -> tuple[Any, None]:
            with on_device(device):
                return spec._build(file, seed), None

        return self._with_size(build)[0]

    def _build(self, file: str, seed: int) -> Any:
        if self.archive:
            return archives.build(self.archive)
        if file:
            return self._application.build_from_file(file, self.published)
        return self._application.build_random(seed)

    def _with_size(self, make: Callable[[NetworkSpec], tuple[Any, T]]) -> tuple[Any, T]:
        """Return a network and more, made anew with a size where its class leaves that open."""
        network, more = build_in_thread(lambda: make(self))
        if self.archive or None not in network.inputs[0].shape[1:]:
            return network, more
        sized = replace(self, options=[*self.options, ("input_shape", _SIZE_WHERE_OPEN)])
        return build_in_thread(lambda: make(sized))

"""Builds the network that a request names, the same each time and with a known input size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from . import archives
from .applications import Application
from .build_thread import build_in_thread

T = TypeVar("T")

_DEFAULT_SIZE = (224, 224, 3)
"""The training size, for classes that take any size by default, such as MobileNetV3."""


def on_device(device: str) -> Any:
    """Return a context in which TensorFlow creates tensors on a device."""
    import tensorflow as tf

    return tf.device(device)


@dataclass(frozen=True)
class NetworkSpec:
    """The network that a request names."""

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
        """The module of its family; empty for an archive, whose pixels stay unchanged."""
        return self._family.__name__ if self._family else ""

    def preprocess(self, batch: Any) -> Any:
        """Return pixels of 0 to 255, preprocessed for the network."""
        return self._family.preprocess_input(batch) if self._family else batch

    def describe(self) -> tuple[Any, dict[str, str]]:
        """Return the network without its weights, and the file that Keras publishes for it."""
        return self._with_size(NetworkSpec._describe)

    def _describe(self) -> tuple[Any, dict[str, str]]:
        if self.archive:
            return archives.build(self.archive), {}
        return self._application.describe(self.published)

    def build(self, device: str, file: str, seed: int) -> Any:
        """Return the network on a device, with weights from a file or drawn from a seed."""

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
        """Return what `make` returns, called again with a default size if the class has none."""
        network, more = build_in_thread(lambda: make(self))
        if self.archive or None not in network.inputs[0].shape[1:]:
            return network, more
        sized = replace(self, options=[*self.options, ("input_shape", _DEFAULT_SIZE)])
        return build_in_thread(lambda: make(sized))

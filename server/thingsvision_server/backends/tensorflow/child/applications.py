"""Builds the networks of `keras.applications` with weights; knows no class by name.

Keras asks for its published files by `get_file`. Here that never reaches the network: the server
finds or fetches the file, and what Keras asked for is its answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from .files import RefusedError, strip_values, with_suffix

T = TypeVar("T")


@dataclass(frozen=True)
class Application:
    """A class of a package's `applications`, and arguments for it."""

    package: str
    name: str
    options: dict[str, Any]

    @property
    def family(self) -> Any:
        """The module of the family that the class belongs to, with its `preprocess_input`."""
        return sys.modules[self._class().__module__]

    def _class(self) -> Any:
        return getattr(import_module(f"{self.package}.applications"), self.name)

    def _build(self, weights: str | None) -> Any:
        return self._class()(weights=weights, **self.options)

    def describe(self, published: bool) -> tuple[Any, dict[str, str]]:
        """Return a network without its weights' values, and the file that Keras publishes for it.

        With `published`, the network is as Keras builds it for those weights: some differ then.
        """
        asked: dict[str, str] = {}

        def note(fname: str, origin: str, **options: Any) -> str:
            digest = options.get("file_hash") or options.get("md5_hash") or ""
            asked.update(name=fname, url=origin, hash=digest)
            return ""

        base, weights = import_module(self.package).Model, "imagenet" if published else None
        with (
            _files_from(self.package, note),
            _patch(base, "load_weights", lambda *_args, **_options: None),
        ):
            return _build_without_values(self.package, lambda: self._build(weights)), asked

    def build_random(self, seed: int) -> Any:
        """Build the network with the weights that Keras draws from a seed."""
        if seed >= 2**32:
            raise RefusedError("seed", f"Keras takes seeds up to {2**32 - 1}, not {seed}")
        import_module(self.package).utils.set_random_seed(seed)
        return self._build(None)

    def build_from_file(self, path: str, published: bool) -> Any:
        """Build the network with a file's weights, as Keras does for its own or a user's file."""
        with with_suffix(Path(path)) as file, _files_from(self.package, lambda *_a, **_o: file):
            try:
                return self._build("imagenet" if published else file)
            # Keras and h5py report files that don't fit by all of these.
            except (ValueError, LookupError, OSError, TypeError, AttributeError) as error:
                raise RefusedError("mismatch", strip_values(str(error))) from error


def _build_without_values(package: str, build: Callable[[], T]) -> T:
    """Build without drawing the values of weights, where Keras can: they may be gigabytes."""
    if package != "keras":
        return build()
    import keras
    from keras.src.backend.common import global_state

    with keras.StatelessScope():
        network = build()
        # On leaving the scope Keras would initialise what was built in it.
        global_state.set_global_attribute("uninitialized_variables", [])
    return network


@contextmanager
def _files_from(package: str, get_file: Callable[..., str]) -> Iterator[None]:
    """Have the package get published files from here."""
    ours = [part for name, part in sys.modules.items() if name.startswith(f"{package}.")]
    with ExitStack() as stack:
        for module in ours:
            if "get_file" in vars(module):
                stack.enter_context(_patch(module, "get_file", get_file))
        yield


@contextmanager
def _patch(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)

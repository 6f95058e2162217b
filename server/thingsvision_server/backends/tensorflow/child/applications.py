"""Builds the networks of `keras.applications` with weights, whatever the class.

Keras fetches its published files with `get_file`. Here that function is replaced and never
downloads: the server finds or fetches the file that Keras asked for.
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
        """Return a network without values, and the file that Keras publishes for it.

        With `published`, the network is built as Keras does for those weights: some differ.
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
            raise RefusedError(
                "seed", f"`random_seed` must be at most {2**32 - 1} for Keras, got {seed}"
            )
        import_module(self.package).utils.set_random_seed(seed)
        return self._build(None)

    def build_from_file(self, path: str, published: bool) -> Any:
        """Build the network with a file's weights, as Keras does for published or users' files."""
        with with_suffix(Path(path)) as file, _files_from(self.package, lambda *_a, **_o: file):
            try:
                return self._build("imagenet" if published else file)
            # Keras and h5py raise any of these for files that don't match.
            except (ValueError, LookupError, OSError, TypeError, AttributeError) as error:
                raise RefusedError("mismatch", strip_values(str(error))) from error


def _build_without_values(package: str, build: Callable[[], T]) -> T:
    """Build without drawing the weights' values, if Keras can: they may be gigabytes."""
    if package != "keras":
        return build()
    import keras
    from keras.src.backend.common import global_state

    with keras.StatelessScope():
        network = build()
        # On exit from the scope Keras would initialise the variables built in it.
        global_state.set_global_attribute("uninitialized_variables", [])
    return network


@contextmanager
def _files_from(package: str, get_file: Callable[..., str]) -> Iterator[None]:
    """Replace `get_file` in all modules of the package."""
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

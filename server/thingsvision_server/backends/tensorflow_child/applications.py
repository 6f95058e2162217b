"""Builds the networks of `keras.applications` with weights; knows no class by name.

Keras asks for its published files by `get_file`. Here that never reaches the network: the server
finds or fetches the file, and what Keras asked for is its answer.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


class RefusedError(Exception):
    """A file or a seed that can't be used; `kind` says why."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def preprocessor(package: str, name: str) -> Callable[[Any], Any]:
    """Return the `preprocess_input` of the family that a class belongs to."""
    function: Callable[[Any], Any] = _family(_application(package, name)).preprocess_input
    return function


def _application(package: str, name: str) -> Any:
    return getattr(import_module(f"{package}.applications"), name)


def _family(application: Any) -> Any:
    return sys.modules[application.__module__]


def sketch(package: str, name: str, published: bool) -> tuple[Any, dict[str, str]]:
    """Return a network without its weights' values, and the file that Keras publishes for it.

    With `published`, the network is as Keras builds it for those weights: some differ then.
    """
    application, asked = _application(package, name), {}

    def note(fname: str, origin: str, **options: Any) -> str:
        digest = options.get("file_hash") or options.get("md5_hash") or ""
        asked.update(name=fname, url=origin, hash=digest)
        return ""

    with ExitStack() as stack:
        stack.enter_context(_files_from(package, note))
        base = import_module(package).Model
        stack.enter_context(_replaced(base, "load_weights", lambda *_args, **_options: None))
        weights = "imagenet" if published else None
        network = _alone(lambda: _without_values(package, lambda: application(weights=weights)))
    return network, asked


def _without_values(package: str, build: Callable[[], T]) -> T:
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


def build_random(package: str, name: str, seed: int) -> Any:
    """Build a network with the weights that Keras draws from a seed."""
    if seed >= 2**32:
        raise RefusedError("seed", f"Keras takes seeds up to {2**32 - 1}, not {seed}")

    def build() -> Any:
        import_module(package).utils.set_random_seed(seed)
        return _application(package, name)(weights=None)

    return _alone(build)


def build_from_file(package: str, name: str, path: str, published: bool) -> Any:
    """Build a network with the weights of a file, as Keras does for its own or a user's file."""
    application = _application(package, name)
    with _with_suffix(Path(path)) as file, _files_from(package, lambda *_a, **_o: file):
        try:
            return _alone(lambda: application(weights="imagenet" if published else file))
        # Keras and h5py report files that don't fit by all of these.
        except (ValueError, LookupError, OSError, TypeError, AttributeError) as error:
            raise RefusedError("mismatch", " ".join(str(error).split())) from error


@contextmanager
def _files_from(package: str, get_file: Callable[..., str]) -> Iterator[None]:
    """Have the package get published files from here."""
    ours = [part for name, part in sys.modules.items() if name.startswith(f"{package}.")]
    with ExitStack() as stack:
        for module in ours:
            if "get_file" in vars(module):
                stack.enter_context(_replaced(module, "get_file", get_file))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)


def _alone(build: Callable[[], T]) -> T:
    """Build in a thread of its own: Keras numbers unnamed layers by thread, from 1 in each."""
    outcome: list[Any] = []

    def run() -> None:
        if "tf_keras" in sys.modules:  # which numbers them by process
            sys.modules["tf_keras"].backend.reset_uids()
        try:
            outcome.append(build())
        except BaseException as error:  # raised where it is waited for
            outcome.append(error)

    thread = Thread(target=run, name="build")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    result: T = outcome[0]
    return result


@contextmanager
def _with_suffix(path: Path) -> Iterator[str]:
    """Yield the file under a name from which Keras tells its format."""
    suffix = _suffix(path)
    with tempfile.TemporaryDirectory(prefix="thingsvision-") as folder:
        link = Path(folder) / f"weights{suffix}"
        link.symlink_to(path.resolve())
        yield str(link)


def _suffix(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(8)
    if start == _HDF5:
        return _hdf5_suffix(path)
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            if "model.weights.h5" in archive.namelist():
                return ".keras"
    raise RefusedError("format", "it is no HDF5 file of weights and no .keras archive")


def _hdf5_suffix(path: Path) -> str:
    """Return `.h5` for the layout of Keras 2, `.weights.h5` for that of Keras 3."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            _check_links(file)
            return (
                ".h5" if {"layer_names", "model_weights"} & {*file.attrs, *file} else ".weights.h5"
            )
    except OSError as error:
        raise RefusedError("format", f"it is a broken HDF5 file: {error}") from error


def _check_links(group: Any) -> None:
    """Refuse what would read other files of this machine."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise RefusedError("format", f"its entry {group.name}/{name} links elsewhere")
        part = group[name]
        if isinstance(part, h5py.Group):
            _check_links(part)
        elif part.external or part.is_virtual:
            raise RefusedError("format", f"its array {part.name} lies in another file")

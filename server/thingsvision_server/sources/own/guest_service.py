"""Answers the server's requests in a guest: checks, opens, loads and runs one user's file."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ...backends.children import replies
from ...backends.children.blocks import KnownBlocks
from ...backends.children.channel import Message, map_memory
from ...backends.children.pass_memory import array_in, read_tap
from ...backends.children.rows_in_place import RowsInPlace, write_rows
from ...backends.compute_options import ComputeOptions
from ...backends.device_faults import first_line
from ...backends.staging import use_staging
from ...errors import InvalidWeightsError

if TYPE_CHECKING:
    from ...backends.base import RunnableModel
    from ..weights.tensor_table import TensorTable
    from .source import WholeModel

_MAX_TABLES = 4
"""Tables that wait for the memory that their values are written to."""

_PACKAGE = str(Path(__file__).parents[2])


def preload() -> Iterator[None]:
    """Import what the files of all formats need; return what imports the rest, in steps.

    Half of the time is for programs of `torch.export` alone: others need not wait for it.
    """
    import h5py  # noqa: F401
    import torch  # noqa: F401

    from ...backends.onnx import structure  # noqa: F401
    from ...backends.torch import device, shortcuts  # noqa: F401
    from ..uploads import formats, hdf5, keras_archive, keras_tensors  # noqa: F401
    from ..weights import state_dicts, tensor_table  # noqa: F401
    from . import onnx_models  # noqa: F401

    return _preload_exported()


def _preload_exported() -> Iterator[None]:
    import torch._dynamo  # noqa: F401

    yield
    from torch.export.pt2_archive import _package  # noqa: F401

    yield
    from . import exported  # noqa: F401


class Service:
    """The methods that requests call, and the model of this process."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], WholeModel] = {}
        self._loaded: dict[str, RunnableModel] = {}
        self._blocks = KnownBlocks()
        self._rows = RowsInPlace()
        self._tables: OrderedDict[str, TensorTable] = OrderedDict()
        self._maps: IO[bytes] | None = None
        self._device = "cpu"

    def prepare(self, settings: Message) -> None:
        """Set how this process computes: as the server's own does."""
        from ...backends.torch.device import use_cores, use_exact_float32
        from ...backends.torch.shortcuts import SHORTCUTS

        with suppress(OSError):  # once it is confined, it can't open this file
            self._maps = Path("/proc/self/maps").open("rb")  # noqa: SIM115
        self._staging = use_staging(self._rows)
        self._staging.__enter__()  # as long as the process lives
        use_exact_float32()
        use_cores(settings["cores"])
        vars(SHORTCUTS).update(settings.get("shortcuts", {}))

    def describe_error(self, error: Exception) -> Message | None:
        """Return the reply for what a request raised; None if it is a bug."""
        return replies.describe_error(error)

    def check(self, request: Message, _descriptors: list[int]) -> Message:
        """Return the format of a file that can be used."""
        from ..uploads.formats import check_file

        with _refusing(request["called"]):
            return {"format": check_file(Path(request["path"]), request["called"])}

    def read(self, request: Message, _descriptors: list[int]) -> Message:
        """Return the table of the tensors in a file of weights."""
        from ..uploads.formats import format_of
        from ..uploads.keras_tensors import read_weights
        from ..weights.state_dicts import read_checkpoint
        from ..weights.tensor_table import TensorTable

        path, called = Path(request["path"]), request["called"]
        with _refusing(called):
            is_keras = request["may_be_keras"] and format_of(path) in ("hdf5", "keras-hdf5")
            read = read_weights if is_keras else partial(read_checkpoint, called=called)
            table = TensorTable(read(path, mapped=True), path, called, self._maps)
        if table.message["memory_bytes"]:
            self._tables[request["table"]] = table
            while len(self._tables) > _MAX_TABLES:
                self._tables.popitem(last=False)
        return table.message

    def fill(self, request: Message, descriptors: list[int]) -> Message:
        """Write the values of a table that are not in its file into shared memory."""
        self._tables.pop(request["table"]).fill(map_memory(descriptors[0]))
        return {}

    def open(self, request: Message, _descriptors: list[int]) -> Message:
        """Return which inputs a whole model accepts."""
        with _refusing(request["called"]):
            model = self._open(request)
        return {"image_counts": model.image_counts, "input_shape": model.input_shape}

    def structure(self, request: Message, _descriptors: list[int]) -> Message:
        """Return the modules of a model for images of a shape."""
        shape, counts = tuple(request["shape"]), tuple(request["counts"])
        gc.disable()  # of 50,000 operators, a million objects would be looked at many times
        try:
            with _refusing(request["called"]):
                structure = self._open(request).structure(shape, counts)
            return {"structure": replies.structure_message(structure)}
        finally:
            gc.enable()

    def load(self, request: Message, _descriptors: list[int]) -> Message:
        """Load a model onto a device, and keep it."""
        self._device = request["device"]
        with _refusing(request["called"]):
            loaded = self._open(request).load(self._device)
        self._loaded[request["model"]] = loaded
        return {
            "framework": loaded.framework,
            "model_sha256": loaded.model_sha256,
            "resident_bytes": loaded.resident_bytes,
            "is_concurrent": loaded.is_concurrent,
            "supported": replies.supported_message(loaded.supported),
            "untried": replies.supported_message(loaded.untried),
        }

    def run(self, request: Message, descriptors: list[int]) -> Message:
        """Run a batch from shared memory, and write the rows there."""
        from ...backends.torch.device import use_cores

        started = time.monotonic()
        use_cores(request["cores"])
        memory = self._blocks.open(request, descriptors)
        batch = array_in(memory, request["shape"], np.dtype(request["dtype"]), 0)
        wanted = list(map(read_tap, request["taps"]))
        options = ComputeOptions.from_dict(request["options"])
        places = [
            array_in(memory, (len(batch), *tap.output_shape), np.float32, message["offset"])
            for tap, message in zip(wanted, request["taps"], strict=True)
        ]
        with self._rows.offer(places if self._device == "cpu" else ()):
            run = self._loaded[request["model"]].run([batch], wanted, options)
        write_rows(places, run.rows)
        return {
            "copy_seconds": run.copy_seconds,
            "forward_seconds": time.monotonic() - started - run.copy_seconds,
            "wait_seconds": run.wait_seconds,
        }

    def close(self, request: Message, _descriptors: list[int]) -> Message:
        """Free a model."""
        loaded = self._loaded.pop(request["model"], None)
        if loaded is not None:
            loaded.close()
        return {}

    def _open(self, request: Message) -> WholeModel:
        key = request["path"], request["format"]
        if key not in self._opened:
            opener: Callable[..., Any] = _opener(request["format"])
            self._opened[key] = opener(Path(request["path"]), request["called"])
        return self._opened[key]


_OURS = (
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    TypeError,
)
"""What a mistake in this program raises. Where it reads a file, it checks before it takes."""


@contextmanager
def _refusing(called: str) -> Iterator[None]:
    """Raise InvalidWeightsError for an error that nobody expected: a library's, for a broken file.

    Libraries have no list of what they raise for bytes that make no sense. The traceback is in the
    output of this process, which the server logs when it ends. A mistake in this program stays
    what it is, and the server reports it as its own.
    """
    try:
        yield
    # The edge of this process: it reads what a stranger wrote.
    except Exception as error:
        if replies.describe_error(error) is not None or is_own_fault(error):
            raise
        traceback.print_exc(file=sys.stderr)
        why = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
        raise InvalidWeightsError(f"{called} can't be used: {why}", subject=called) from error


def is_own_fault(error: BaseException) -> bool:
    """Return whether an error is a mistake in this program, not what a library says of a file."""
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, _OURS) and innermost.f_code.co_filename.startswith(_PACKAGE)


def _opener(file_format: str) -> Callable[..., Any]:
    if file_format == "onnx":
        from .onnx_models import OnnxFile

        return OnnxFile
    from .exported import ExportedModel

    return ExportedModel

"""Writes a network of this process as a file that a server can run.

PyTorch networks are exported (`torch.export`), Keras models saved; neither contains Python code.
"""

from __future__ import annotations

import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..calls.caller import warn_caller
from ..errors import InvalidRequestError, MissingDependencyError
from .random_draws import no_draws
from .recording import OUTLINE_FILE, Recording, first_tensor, unwrap, unwrap_parts
from .snapshot import left_unchanged

InputShape = Sequence["int | None"]
"""Shape of one image's input; None means any size."""

OPEN_SIZE = 224
"""Height and width of the inputs that trace a network whose inputs may have any size, pixels."""

_EXPORT_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Errors of a network's own code and of PyTorch if it can't be traced."""


class OtherInputsError(InvalidRequestError):
    """A network does not run with inputs of the shape that was tried, before anything is traced."""


_OLDEST_TORCH = "2.9"
"""Servers don't read the files of earlier versions of torch.export."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def export_torch(
    network: Any,
    path: Path,
    *,
    input_shape: InputShape,
    forward_fn: Callable[..., Any] | None = None,
) -> None:
    """Write a `torch.nn.Module`, in evaluation mode, as a program (.pt2) for any number of images.

    If that fails, the program takes one image at a time, with a warning. `forward_fn` is called
    with (object, batch) in place of its `forward`; the object's `model` is the network.
    Raises InvalidRequestError with PyTorch's reason (OtherInputsError if the network itself does
    not run with such inputs), and MissingDependencyError without a PyTorch whose programs servers
    read.
    """
    torch = _import_torch()
    if not isinstance(network, torch.nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module with backend='pt', got {type(network)}")
    inner = unwrap(network)
    with (
        left_unchanged(network, forward_fn),
        unwrap_parts(inner),
        _evaluation_mode(inner),
        _as_written(torch),
        _quiet(),
        torch.no_grad(),
    ):
        traced = _Traced(torch, inner, network, forward_fn)
        program = _export(torch, traced, input_shape)
        torch.export.save(program, path, extra_files={OUTLINE_FILE: traced.recording.outline()})


def _import_torch() -> Any:
    """Return PyTorch. Raises MissingDependencyError if servers don't read its programs."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "backend='pt' exports a network of PyTorch: pip install torch."
        ) from error
    if torch.__version__ < _OLDEST_TORCH:
        raise MissingDependencyError(
            f"Networks of yours must be exported by PyTorch {_OLDEST_TORCH} or newer, got "
            f"{torch.__version__}: pip install 'torch>={_OLDEST_TORCH}'. If this environment needs "
            "the older version, upload the weights if the server has the architecture (model_path "
            "of get_extractor), or an ONNX file of the network (Client.upload_model)."
        )
    return torch


def save_keras(network: Any, path: Path) -> None:
    """Write a Keras model as an archive (.keras), the same bytes for the same model."""
    if not hasattr(network, "get_config") or not hasattr(network, "save"):
        raise TypeError(f"`model` must be a Keras model with backend='tf', got {type(network)}")
    network.save(str(path))
    _without_dates(path)


class _Traced:
    """A network as it is traced: with marks for what its modules return, and one output."""

    def __init__(
        self, torch: Any, network: Any, given: Any, forward_fn: Callable[..., Any] | None
    ) -> None:
        self.network = network
        self.recording = Recording(torch, network)
        self._torch = torch
        self._owner = SimpleNamespace(model=given, backend="pt", device="cpu")
        self._forward_fn = forward_fn

    @property
    def kind(self) -> str:
        """The class of the network."""
        return type(self.network).__name__

    def run(self, images: Any) -> Any:
        """Return the first tensor that the network, or the user's function, returns."""
        if self._forward_fn is None:
            output = self.network(images)
        else:
            output = self._forward_fn(self._owner, images)
            self.recording.mark_output(self.network, output)
        tensor = first_tensor(self._torch, output)
        return images if tensor is None else tensor

    @contextmanager
    def as_module(self) -> Iterator[Any]:
        """Yield a module that runs it, whose only part is the network."""
        module = self._torch.nn.Module()
        module.network = self.network
        module.forward = self.run
        with self.recording.hook_modules(but_root=self._forward_fn is not None):
            yield module


def _export(torch: Any, traced: _Traced, input_shape: InputShape) -> Any:
    try:
        images = _zeros(torch, traced.network, input_shape, 2)
        with no_draws(traced.network, lambda: traced.run(images)):
            return _program(torch, traced, input_shape, image_count=2)
    except InvalidRequestError:
        raise
    except _EXPORT_ERRORS as error:
        reason = error
        _check_precision(torch, traced, reason)
    try:
        program = _program(torch, traced, input_shape, image_count=1)
    except _EXPORT_ERRORS:
        kind = InvalidRequestError if _runs(torch, traced, input_shape) else OtherInputsError
        raise kind(_not_exportable(traced.kind, input_shape, reason)) from reason
    warn_caller(
        f"{traced.kind} runs one image at a time on the server, as torch.export can't "
        f"make a program for any number of images: {_first_line(reason)}",
    )
    return program


def _check_precision(torch: Any, traced: _Traced, reason: Exception) -> None:
    """Raise InvalidRequestError for a network that fails and has parameters in half or double."""
    kinds = {one.dtype for one in traced.network.parameters() if one.is_floating_point()}
    if others := sorted(str(kind) for kind in kinds if kind != torch.float32):
        raise InvalidRequestError(
            f"{traced.kind} must have parameters of torch.float32, as its inputs are, got "
            f"{', '.join(others)}: call network.float() first, or cast in its forward "
            f"({_first_line(reason)})."
        ) from reason


def _runs(torch: Any, traced: _Traced, input_shape: InputShape) -> bool:
    """Whether the network itself takes one or two inputs of that shape."""
    for image_count in (1, 2):
        try:
            traced.run(_zeros(torch, traced.network, input_shape, image_count))
        except _EXPORT_ERRORS:
            continue
        return True
    return False


def _program(torch: Any, traced: _Traced, input_shape: InputShape, *, image_count: int) -> Any:
    dims: dict[int, Any] = {
        axis: torch.export.Dim.AUTO for axis, size in enumerate(input_shape, 1) if size is None
    }
    if image_count > 1:
        dims[0] = torch.export.Dim("batch")
    images = _zeros(torch, traced.network, input_shape, image_count)
    shapes = (dims,) if dims else None
    with traced.as_module() as module:
        return torch.export.export(module, (images,), dynamic_shapes=shapes, strict=False)


def _zeros(torch: Any, network: Any, input_shape: InputShape, image_count: int) -> Any:
    parameter = next(network.parameters(), None)
    device = "cpu" if parameter is None else parameter.device
    sizes = [OPEN_SIZE if size is None else size for size in input_shape]
    return torch.zeros((image_count, *sizes), dtype=torch.float32, device=device)


def _not_exportable(kind: str, shape: InputShape, reason: Exception) -> str:
    sides = " x ".join(str(size or "any") for size in shape)
    return (
        f"torch.export can't make a program of {kind} for inputs of {sides}, and a server does not "
        f"run its users' Python code: {_first_line(reason)}. If its inputs have another shape, "
        "give preprocess, input_shape=(channels, height, width), or arrays that are its inputs. "
        "Otherwise upload its weights "
        "if the server has the architecture (model_path of get_extractor), or an ONNX file of it "
        "(Client.upload_model)."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(".: ")


def _as_written(torch: Any) -> Any:
    """Return a context in which what `torch.compile` made runs as it was written."""
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _evaluation_mode(network: Any) -> Iterator[None]:
    """Put a network in evaluation mode (no dropout), and restore each module's mode at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence logs, which failed attempts would fill; the error has what they say, if any."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # The network is left as it was, so it does not matter what it stores.
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            yield
    finally:
        logging.disable(before)


def _without_dates(path: Path) -> None:
    """Rewrite an archive without its creation time: a file is identified by its digest."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)

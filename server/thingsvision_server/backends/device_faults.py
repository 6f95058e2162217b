"""Tells errors after which a process can't use its GPU any more from errors of one request.

After some errors of a kernel, every later call of CUDA in the process fails: its context is
poisoned, and only another process gets a new one. Running out of memory, or a wrong argument,
leaves the context as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from ..errors import ThingsvisionError


class Verdict(Enum):
    """What an error says about the device."""

    FINE = "fine"
    """Nothing: it is about one request."""
    DOUBTFUL = "doubtful"
    """A library failed, perhaps because the context is poisoned: ask the device."""
    LOST = "lost"
    """The process can't use the device any more."""


_LOST_CODES = frozenset({214, 220, 221, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})
"""Numbers of `cudaError_t` after which, by CUDA's manual, the process must end; ECC and NVLink."""

_DOUBTFUL_CODES = frozenset({30, 46, 100, 101, 201, 304, 999})

_LOST_WORDS = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid program counter",
    "unspecified launch failure",
    "launch timed out",
    "launch failed",
    "hardware stack error",
    "uncorrectable ecc",
    "ecc uncorrectable",
    "uncorrectable nvlink",
    "not supported on global/shared address space",
    "context is destroyed",
    "gpu is lost",
    "fallen off the bus",
)
_DOUBTFUL_WORDS = (
    "execution_failed",
    "internal_error",
    "mapping_error",
    "unknown error",
    "no cuda-capable device",
    "busy or unavailable",
    "invalid device context",
)

_FROM_DEVICE = re.compile(
    r"(cuda|cudnn|cublas|cufft|cusolver|cusparse|triton|nvrtc|hip)\w* "
    r"(driver )?(error|failure)\b|CUDA_ERROR_|CUDA failure \d|CUBLAS_STATUS_|CUDNN_STATUS_"
    r"|Triton Error \[CUDA\]",
    re.IGNORECASE,
)
"""How errors of CUDA and its libraries begin, in PyTorch, onnxruntime and TensorFlow."""

_NO_MEMORY = re.compile(
    r"DefaultCPUAllocator|^CUDA (driver )?error: out of memory|_STATUS_ALLOC_FAILED"
    r"|^could not create a primitive$|CUDA failure 2\b|allocate memory|bad allocation"
    r"|std::bad_alloc",
    re.IGNORECASE,
)
"""How PyTorch, oneDNN, cuBLAS, cuDNN and onnxruntime say that memory ran out."""

_CODE = re.compile(r"CUDA failure (\d+)")
_DETAILS_LENGTH = 400


def judge(error: BaseException) -> tuple[Verdict, str]:
    """Return what an error, or an error that led to it, says about the device, and its sentence."""
    worst, sentence = Verdict.FINE, ""
    for one in _chain(error):
        verdict = _judge_one(one)
        if verdict is Verdict.LOST:
            return verdict, first_line(one)
        if verdict is Verdict.DOUBTFUL and worst is Verdict.FINE:
            worst, sentence = verdict, first_line(one)
    return worst, sentence


def judge_text(text: str) -> Verdict:
    """Return what a text says about the device, such as a traceback of another process."""
    if not _FROM_DEVICE.search(text):
        return Verdict.FINE
    words = text.lower().replace("cuda_error_", "cuda error ")
    plain = words.replace("_", " ")
    codes = {int(number) for number in _CODE.findall(text)}
    if codes & _LOST_CODES or any(one in plain for one in _LOST_WORDS):
        return Verdict.LOST
    if codes & _DOUBTFUL_CODES or any(one in words for one in _DOUBTFUL_WORDS):
        return Verdict.DOUBTFUL
    return Verdict.FINE


def says_out_of_memory(text: str) -> bool:
    """Tell whether the text of a framework's error says that memory ran out."""
    return bool(_NO_MEMORY.search(text))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the device, or a CPU's machine, has no memory left."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or names & {"OutOfMemoryError", "OutOfDeviceMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(first_line(error))


def first_line(error: BaseException) -> str:
    """Return the first line of an error, for people."""
    return str(error).strip().partition("\n")[0][:_DETAILS_LENGTH] or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _judge_one(error: BaseException) -> Verdict:
    """Judge an error by CUDA's number if it has one, else by its first line.

    What users send can stand inside the texts of errors, but not begin those of PyTorch.
    """
    kinds = type(error).__mro__
    names = {kind.__name__ for kind in kinds}
    if "AcceleratorError" in names:
        code = getattr(error, "error_code", None)
        if isinstance(code, int) and code in _LOST_CODES:
            return Verdict.LOST
    elif isinstance(error, ThingsvisionError) or "OutOfMemoryError" in names:
        return Verdict.FINE
    is_of_onnx = any(kind.__module__.startswith("onnxruntime") for kind in kinds)
    line = first_line(error)
    if is_of_onnx or (isinstance(error, RuntimeError) and _FROM_DEVICE.match(line)):
        return judge_text(line)
    return Verdict.FINE

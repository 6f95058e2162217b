"""Which errors mean that the process has lost its GPU, by the exceptions that frameworks raise."""

from __future__ import annotations

import asyncio

import pytest
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as onnx

from thingsvision_server.backends.base import NetworkError, OutOfDeviceMemoryError
from thingsvision_server.backends.device_faults import (
    Verdict,
    is_out_of_memory,
    judge,
    judge_text,
    says_out_of_memory,
)
from thingsvision_server.backends.onnx.model import framework_name, providers
from thingsvision_server.engine.device_watch import DeviceWatch
from thingsvision_server.errors import UnknownModelError

HELP = "\nSearch for `cudaErrorAssert' in https://docs.nvidia.com for more information."
ORT = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. "


def numbered(code: int, text: str = "CUDA error: out of words") -> Exception:
    error: Exception = torch.AcceleratorError(text)
    error.error_code = code  # type: ignore[attr-defined]  # as PyTorch sets it
    return error


LOST = [
    torch.AcceleratorError(f"CUDA error: device-side assert triggered{HELP}"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("CUDA error: misaligned address"),
    torch.AcceleratorError("CUDA error: an illegal instruction was encountered"),
    torch.AcceleratorError("CUDA error: the launch timed out and was terminated"),
    torch.AcceleratorError("CUDA error: invalid program counter"),
    torch.AcceleratorError("CUDA error: hardware stack error"),
    torch.AcceleratorError("CUDA error: operation not supported on global/shared address space"),
    numbered(719),
    numbered(214),
    RuntimeError("CUDA error: device-side assert triggered"),  # of older PyTorch
    RuntimeError("CUDA driver error: an illegal memory access was encountered"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    onnx.Fail(f"{ORT}CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
    onnx.RuntimeException(f"{ORT}CUDA failure 719: unspecified launch failure ; GPU=0"),
]

DOUBTFUL = [
    torch.AcceleratorError("CUDA error: unknown error"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
]

FINE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
    torch.AcceleratorError("CUDA error: out of memory"),
    torch.AcceleratorError(f"CUDA error: invalid argument{HELP}"),
    torch.AcceleratorError("CUDA error: invalid configuration argument"),
    torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"),
    numbered(2),
    numbered(1, "CUDA error: invalid argument"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    onnx.Fail(f"{ORT}CUDA failure 2: out of memory ; GPU=0"),
    onnx.InvalidArgument("Got invalid dimensions for input: x"),
    OutOfDeviceMemoryError("CUDA out of memory"),
    MemoryError("CUDA error: device-side assert triggered"),
    # Words that users put there.
    ValueError("CUDA error: device-side assert triggered"),
    KeyError("CUDA error: device-side assert triggered"),
    RuntimeError("module 'CUDA error: device-side assert triggered' returned [1]"),
    NetworkError("in my network: CUDA error: device-side assert triggered"),
    UnknownModelError("CUDA error: device-side assert triggered"),
]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        *((one, Verdict.LOST) for one in LOST),
        *((one, Verdict.DOUBTFUL) for one in DOUBTFUL),
        *((one, Verdict.FINE) for one in FINE),
    ],
    ids=lambda one: f"{type(one).__name__}: {str(one)[:60]}",
)
def test_the_verdict_on_an_error(error: Exception, verdict: Verdict) -> None:
    found, sentence = judge(error)
    assert found is verdict
    assert sentence == ("" if verdict is Verdict.FINE else str(error).partition("\n")[0])


def test_an_error_counts_that_led_to_another() -> None:
    error = UnknownModelError("could not be loaded")
    error.__cause__ = LOST[0]
    assert judge(error) == (Verdict.LOST, "CUDA error: device-side assert triggered")


@pytest.mark.parametrize(
    ("error", "is_out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: ..."), True),
        (RuntimeError("could not create a primitive"), True),  # oneDNN
        (MemoryError(), True),
        (torch.AcceleratorError("CUDA error: invalid argument"), False),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
    ids=str,
)
def test_which_errors_say_that_memory_ran_out(error: Exception, *, is_out: bool) -> None:
    assert is_out_of_memory(error) is is_out


@pytest.mark.parametrize(
    ("text", "is_out"),
    [
        (f"{ORT}CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc", True),
        (f"{ORT}bfc_arena.cc Failed to allocate memory for requested buffer of size 1", True),
        (f"{ORT}std::bad_alloc", True),
        (f"{ORT}CUDA failure 700: an illegal memory access was encountered", False),
        (f"{ORT}Got invalid dimensions for input", False),
    ],
)
def test_what_onnxruntime_says_of_memory(text: str, *, is_out: bool) -> None:
    assert says_out_of_memory(text) is is_out


def test_a_model_that_runs_on_the_cpu_in_the_place_of_a_gpu_says_so() -> None:
    assert providers("cpu") == providers("cuda:0") == [("CPUExecutionProvider", {})]
    on_cpu = framework_name("cpu", providers("cpu"))
    assert on_cpu.startswith("onnxruntime ")
    assert "CPU" not in on_cpu
    told = framework_name("cuda:0", providers("cuda:0"))
    assert told == f"{on_cpu} (on the CPU: onnxruntime can't use the GPU)"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("InternalError: CUDA_ERROR_ILLEGAL_ADDRESS: could not synchronize", Verdict.LOST),
        ("failed to launch: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure", Verdict.LOST),
        ("CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered", Verdict.LOST),
        ("CUDA_ERROR_OUT_OF_MEMORY: out of memory", Verdict.FINE),
        ("ValueError: an illegal memory access in my dream", Verdict.FINE),
    ],
)
def test_the_verdict_on_the_text_of_another_process(text: str, verdict: Verdict) -> None:
    assert judge_text(f"Traceback (most recent call last):\n{text}\n") is verdict


@pytest.mark.parametrize("answers", [True, False])
async def test_a_doubtful_error_asks_the_device(*, answers: bool) -> None:
    watch = DeviceWatch("cuda:0", lambda: answers)
    assert not watch.check(FINE[0])
    assert not watch.check(DOUBTFUL[1])
    async with asyncio.timeout(10):
        if answers:
            while watch._asking is not None:
                await asyncio.sleep(0.001)
            assert not watch.reason
            assert not watch.check(FINE[0])
        else:
            assert "CUBLAS_STATUS_EXECUTION_FAILED" in await watch.wait()
            assert watch.check(FINE[0])

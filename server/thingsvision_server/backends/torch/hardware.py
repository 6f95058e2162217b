"""Names the hardware of forward passes, and its libraries, as far as they can change bits."""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


@cache
def describe_hardware(device: str) -> str:
    """Return a GPU with its driver, CUDA and cuDNN, or a CPU's model, on one line."""
    if torch.device(device).type == "cuda":
        return _gpu(torch.device(device))
    return f"{_cpu_model()}, {torch.backends.cpu.get_cpu_capability()}"


def _gpu(device: torch.device) -> str:
    parts = [torch.cuda.get_device_name(device), f"driver {_driver_version()}"]
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return ", ".join([*parts, f"CUDA {torch.version.cuda}", f"cuDNN {cudnn}"])


def _driver_version() -> str:
    """Return the version of NVIDIA's driver: CUDA's own interface only knows its CUDA version."""
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else "unknown"


def _cpu_model() -> str:
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())

"""Describes the conditions of a measurement: machine, versions, commit."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import psutil

DISTRIBUTIONS = (
    "thingsvision-service",
    "torch",
    "torchvision",
    "tensorflow",
    "keras",
    "pillow",
    "numpy",
    "scipy",
    "pyarrow",
    "grpcio",
    "protobuf",
)

PEER_DISTRIBUTIONS = ("thingsvision", *(name for name in DISTRIBUTIONS[1:] if name != "pyarrow"))

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE", "MALLOC_ARENA_MAX")

_PRINT_VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
)


def describe_machine(device: str) -> dict[str, object]:
    """Return what a reader needs to judge the figures."""
    return {
        "time": now(),
        "commit": commit(),
        "cpu": _cpu_name(),
        "cores": core_count(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": _gpu_name() if device.startswith("cuda") else device,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in DISTRIBUTIONS},
        "environment": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
    }


def peer_versions(python: Path) -> dict[str, str]:
    """Return the versions of an environment's distributions, by running its own Python."""
    ask = [str(python), "-c", _PRINT_VERSIONS, *PEER_DISTRIBUTIONS]
    done = subprocess.run(ask, capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def core_count() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def has_gpu() -> bool:
    """Tell whether NVIDIA's driver lists a GPU."""
    return bool(_gpu_name())


def _gpu_name() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, check=False)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def now() -> str:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def commit() -> str:
    """Return the commit of this checkout, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")

"""Says what kinds of child processes there are: with which framework, run by which Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_KEPT = frozenset(
    {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "TZ", "TMPDIR",
     "KERAS_BACKEND", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "SYSTEMROOT"}
)  # fmt: skip
_KEPT_PREFIXES = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "CUDA_", "NVIDIA_", "NCCL_",
    "HIP_", "ROCM_", "TF_", "XLA_", "PYTORCH_", "TORCH_", "ORT_", "MALLOC_",
)  # fmt: skip
"""Variables that say where libraries are, and how they compute; none of them is a secret."""


@dataclass(frozen=True)
class ChildKind:
    """One kind of child process."""

    name: str
    """Of the framework, in messages."""
    python: str
    """The interpreter of an environment that has it."""
    module: str
    """What the template imports. It has `preload`, which imports the framework, and may return an
    iterator that imports more at each step; and the class `Service`, whose methods answer
    requests."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that the framework reads."""
    advice: str = ""
    """What to do if the interpreter can't be used."""


def child_environment(kind: ChildKind) -> Mapping[str, str]:
    """Return the variables of a child: only what changes how libraries are found and compute."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    return kept | dict(kind.environment)

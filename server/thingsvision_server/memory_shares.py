"""Divides memory and disk space among uses and people: what the settings name, and the defaults.

The shares follow from total memory, never from what is free: the size of a batch decides bits.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from .engine.comparing import AnalysisLimits
from .engine.fairness.in_flight import Load
from .engine.fairness.order import OnUsed, count_nothing
from .engine.fairness.turns import Turns
from .engine.models.budget import DeviceUse, ModelBudget
from .engine.passes.limits import BatchLimits, default_limits
from .engine.rows.spill import SpillQuota
from .errors import PreconditionError
from .host import host_memory
from .settings import Settings
from .settings.sentences import too_much

CALL_FILES_BYTES = 256 * 1024 * 1024
"""Files of one call that are in memory while they wait to be decoded."""

_MAX_STAGING_BYTES = 4 * 2**30
_SPILL_SHARE = 0.8
_MAX_FEATURES_BYTES = 2**30
_LEAST_PROJECTION_BYTES = 256 * 2**20


def batch_limits(settings: Settings, device: str) -> BatchLimits:
    """Return the limits that the settings name, and the device's own for all others."""
    own = default_limits(
        total_bytes(device), host_memory().total_bytes, on_gpu=device.startswith("cuda")
    )
    return BatchLimits(
        settings.max_batch or own.images,
        settings.max_batch_bytes or own.activation_bytes,
        settings.max_input_bytes or own.input_bytes,
        settings.max_inner_bytes or own.inner_bytes,
    )


def model_budget(settings: Settings, device: str) -> ModelBudget:
    """Return the memory of resident models; on a GPU, what others and passes leave.

    Raises PreconditionError for a budget above the device's memory.
    """
    total = total_bytes(device)
    if settings.device_memory > total:
        owner = "" if device == "cpu" else device
        raise PreconditionError(too_much("device_memory", settings.device_memory, total, owner))
    if device == "cpu":
        half = total // 2 - staging_bytes(settings)
        return ModelBudget(settings.device_memory or max(1, half))
    return ModelBudget(settings.device_memory, partial(measure_use, device))


def host_budget_bytes(settings: Settings, device: str) -> int:
    """Return the host memory of offloaded models."""
    if settings.host_memory is not None:
        return settings.host_memory
    # On a CPU an offloaded model would stay where it was.
    if device == "cpu":
        return 0
    return max(0, host_memory().total_bytes // 4 - staging_bytes(settings))


def staging_bytes(settings: Settings) -> int:
    """Return the host memory of inputs and features on their way."""
    if settings.staging_memory is not None:
        return settings.staging_memory
    return min(_MAX_STAGING_BYTES, host_memory().total_bytes // 16)


def decode_bytes(settings: Settings) -> int:
    """Return the host memory of large images that are being decoded."""
    return settings.decode_memory or host_memory().total_bytes // 8


def person_load(settings: Settings) -> Load:
    """Return what one person's calls may hold at a time."""
    most = settings.person_memory or host_memory().total_bytes // 4
    return Load(settings.person_images, most)


def person_files_bytes(settings: Settings) -> int:
    """Return the host memory of one person's files that wait to be decoded."""
    return max(1, person_load(settings).byte_count // 4)


def person_upload_bytes(settings: Settings) -> int:
    """Return the disk space of one person's uploads."""
    return settings.person_upload_quota or settings.upload_quota // 4


def person_pca_bytes(settings: Settings) -> int:
    """Return the disk space of one person's PCAs."""
    most = settings.person_pca_quota
    return settings.pca_quota // 4 if most is None else most


def projection_bytes() -> int:
    """Return the host memory of the matrices of random projections."""
    return max(_LEAST_PROJECTION_BYTES, host_memory().total_bytes // 32)


def analysis_limits(settings: Settings, on_used: OnUsed = count_nothing) -> AnalysisLimits:
    """Return the memory of one RDM or PCA, where features beyond it are spilled, and the turns."""
    from .backends.torch.device import core_count, use_cores

    return AnalysisLimits(
        features_bytes=_features_bytes(settings),
        rdm_bytes=rdm_bytes(settings),
        spill_dir=settings.spill_dir,
        spill_quota=SpillQuota(settings.spill_quota or _spill_bytes(settings)),
        thread_pool=settings.rdm_thread_pool,
        turns=Turns(prepare=partial(use_cores, core_count()), on_used=on_used),
    )


def rdm_bytes(settings: Settings) -> int:
    """Return the host memory of the RDMs, or the PCA, of one call."""
    return settings.rdm_memory or host_memory().total_bytes // 2


def _spill_bytes(settings: Settings) -> int:
    """Return what spilled features may take: most of what their disk has free at the start."""
    folder = settings.spill_dir or Path(tempfile.gettempdir())
    try:
        return int(_SPILL_SHARE * shutil.disk_usage(folder).free)
    except OSError:  # who spills is told what is wrong with it
        return sys.maxsize


def _features_bytes(settings: Settings) -> int:
    if settings.rdm_features_memory is not None:
        return settings.rdm_features_memory
    return min(_MAX_FEATURES_BYTES, host_memory().total_bytes // 8)


def total_bytes(device: str) -> int:
    """Return all the memory of a device."""
    from .backends.torch.device import device_memory_bytes

    return host_memory().total_bytes if device == "cpu" else device_memory_bytes(device)


def measure_use(device: str) -> DeviceUse:
    """Return how much of a GPU's memory is used now, and how much of that by this process."""
    from .backends.torch.device import (
        device_memory_bytes,
        device_memory_used_bytes,
        own_memory_bytes,
    )

    return DeviceUse(
        device_memory_bytes(device), device_memory_used_bytes(device), own_memory_bytes(device)
    )

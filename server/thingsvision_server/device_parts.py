"""Makes the parts of the server that belong to its device: lanes, memory, metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import psutil

from .allocator import release_freed_memory
from .backends.staging import StagingPool, staging, use_staging
from .engine.analysis_device import AnalysisDevice
from .engine.device_watch import DeviceWatch
from .engine.models.residency import Residency
from .engine.passes.busy_clock import BusyClock
from .engine.passes.lanes import Cores, DeviceLanes
from .engine.passes.room import MemoryProbe, PassRoom
from .host import machine_memory
from .memory_shares import measure_use, staging_bytes, total_bytes
from .monitoring.metrics import Metrics
from .rdm.computation import FLOAT64, RESIDUES
from .settings import Settings


def find_device(settings: Settings) -> str:
    """Return PyTorch's name of the device that the settings name. Raises PreconditionError."""
    from .backends.torch.device import check_device, default_device, use_exact_float32

    use_exact_float32()
    return default_device() if settings.device == "auto" else check_device(settings.device)


def make_watch(device: str) -> DeviceWatch:
    """Return what notices that the device is lost."""
    from .backends.torch.device import device_answers

    return DeviceWatch(device, partial(device_answers, device))


def make_lanes(
    settings: Settings, device: str, *, watch: DeviceWatch, metrics: Metrics
) -> DeviceLanes:
    """Return the threads that run forward passes."""
    from .backends.torch.device import core_count
    from .backends.torch.hardware import describe_hardware
    from .backends.torch.teams import use_team

    cores = Cores(core_count(), use_team)
    clock = BusyClock(metrics.busy_seconds.inc)
    metrics.before_reading(clock.note)
    width = min(settings.cpu_lanes, cores.count) if device == "cpu" else settings.gpu_lanes
    return DeviceLanes(
        device,
        cores,
        width,
        on_idle=partial(_release_idle_memory, device),
        on_error=watch.check,
        clock=clock,
        hourly_seconds=settings.person_device_seconds,
        hardware=describe_hardware(device),
    )


def _release_idle_memory(device: str) -> None:
    from .backends.torch.device import release_staging

    staging().trim()
    release_staging(device)
    release_freed_memory()


def use_device_staging(settings: Settings, device: str) -> AbstractContextManager[StagingPool]:
    """Use memory for inputs and features on their way while the context lasts."""
    from .backends.torch.device import staging_memory

    return use_staging(StagingPool(staging_bytes(settings), staging_memory(device)))


def make_pass_room(device: str, metrics: Metrics) -> PassRoom:
    """Return the memory that passes share."""
    from .backends.torch.device import PeakMeter, free_memory_bytes, reclaim_memory

    meter = PeakMeter(device)
    probe = MemoryProbe(
        partial(free_memory_bytes, device),
        partial(reclaim_memory, device),
        meter.begin,
        meter.peak_bytes,
    )
    return PassRoom(total_bytes(device) // 2, probe, metrics.pass_waits.inc)


def analysis_device(name: str) -> AnalysisDevice:
    """Return where RDMs and PCAs are computed: in float64 if the device is good at it."""
    from .backends.torch import device as torch_device

    if name == "cpu":
        return AnalysisDevice(name, FLOAT64)
    is_fast = torch_device.has_fast_float64(torch_device.compute_capability(name))
    return AnalysisDevice(
        name,
        FLOAT64 if is_fast else RESIDUES,
        partial(torch_device.free_memory_bytes, name),
        torch_device.translate_out_of_memory,
    )


def publish_device_memory(metrics: Metrics, residency: Residency, room: PassRoom) -> None:
    """Publish how much of the device's memory is used, and what uses it."""
    device = residency.device
    kinds: dict[str, Callable[[], float]] = {
        "models": lambda: residency.used_bytes,
        "staging": lambda: staging().held_bytes,
        "templates": lambda: residency.template_bytes,
    }
    if device == "cpu":
        process = psutil.Process()
        metrics.device_total_bytes.set(machine_memory().total_bytes)
        metrics.device_used_bytes.set_function(_used_bytes)
        kinds["passes"] = lambda: room.used_bytes
        kinds["others"] = lambda: max(
            0,
            _used_bytes()
            - process.memory_info().rss
            - residency.foreign_bytes
            - residency.template_bytes,
        )
    else:
        measure = partial(measure_use, device)
        metrics.device_total_bytes.set(measure().total_bytes)
        metrics.device_used_bytes.set_function(lambda: measure().used_bytes)
        kinds["passes"] = lambda: max(
            0, measure().own_bytes + residency.foreign_bytes - residency.used_bytes
        )
        kinds["others"] = lambda: max(0, measure().other_bytes - residency.foreign_bytes)
    for kind, read in kinds.items():
        metrics.device_bytes.labels(kind).set_function(read)


def _used_bytes() -> int:
    """Return what is used of the memory of this machine, or of its control group."""
    memory = machine_memory()
    return memory.total_bytes - memory.available_bytes

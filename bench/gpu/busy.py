"""Measures which share of a time the device computed, as seen from outside the server."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from ..machine import core_count

_SAMPLE_MS = 100


@dataclass
class Busy:
    """The share, from 0 to 1; None until the block has ended, or if nobody can tell."""

    share: float | None = None


@contextmanager
def watch(device: str, pid: int) -> Iterator[Busy]:
    """Watch a block: a GPU by its own counter, a CPU by the process's share of all cores."""
    busy = Busy()
    with _watch_gpu(device, busy) if device.startswith("cuda") else _watch_cpu(pid, busy):
        yield busy


@contextmanager
def _watch_gpu(device: str, busy: Busy) -> Iterator[None]:
    if shutil.which("nvidia-smi") is None:
        yield
        return
    index = device.partition(":")[2] or "0"
    command = ["nvidia-smi", f"--id={index}", "--query-gpu=utilization.gpu"]
    columns = ["--format=csv,noheader,nounits", f"--loop-ms={_SAMPLE_MS}"]
    with subprocess.Popen([*command, *columns], stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield
        finally:
            sampler.terminate()
            printed, _ = sampler.communicate()
    samples = [float(line) for line in printed.split() if line.isdigit()]
    busy.share = round(sum(samples) / len(samples) / 100, 3) if samples else None


@contextmanager
def _watch_cpu(pid: int, busy: Busy) -> Iterator[None]:
    process, began = psutil.Process(pid), time.monotonic()
    before = process.cpu_times()
    yield
    after, seconds = process.cpu_times(), time.monotonic() - began
    spent = after.user + after.system - before.user - before.system
    busy.share = round(spent / seconds / core_count(), 3)

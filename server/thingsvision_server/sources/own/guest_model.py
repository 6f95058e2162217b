"""Whole models of users as the server sees them: what runs them is a guest, not this process."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...backends.base import BatchRun, Supported
from ...backends.children.guests import Guest, GuestRuntime
from ...backends.children.process import ChildProcess
from ...backends.children.replies import (
    ChildFault,
    raise_error,
    read_sizes,
    read_structure,
    read_supported,
)
from ...backends.compute_options import DEFAULT, ComputeOptions
from ...backends.modules import Structure
from ...backends.taps import Tap
from ...backends.tensorflow.model import TensorFlowRuntime
from ...errors import BackendCrashedError
from ..uploads.guests import guest_of
from ..uploads.records import UploadRecord

Message = dict[str, Any]


def open_program(
    path: Path, record: UploadRecord, _tensorflow: TensorFlowRuntime, guests: GuestRuntime
) -> GuestProgram:
    """Return the model in an ONNX file or a `torch.export` program."""
    return GuestProgram(path, record.called, record.format, guests)


class GuestProgram:
    """A file of an ONNX model or a `torch.export` program, opened by its guest."""

    def __init__(self, path: Path, called: str, file_format: str, guests: GuestRuntime) -> None:
        self._file = {"path": str(path), "called": called, "format": file_format}
        self._guest = guest_of(path, called, guests)
        reply = self._guest.request("open", self._guest.check_limits, **self._file)
        least, most = read_sizes(reply["image_counts"])
        self.image_counts: tuple[int, int | None] = (least or 1, most)
        self.input_shape: tuple[int | None, ...] = read_sizes(reply["input_shape"])

    def structure(self, shape: tuple[int, ...], counts: tuple[int, int]) -> Structure:
        """Return its modules for images of a shape, from passes over `counts` images."""
        guest = self._guest
        reply = guest.request(
            "structure", guest.build_limits, shape=shape, counts=counts, **self._file
        )
        guest.image_seconds = max(guest.image_seconds, guest.last_seconds / sum(counts))
        return read_structure(reply["structure"])

    def load(self, device: str) -> GuestModel:
        """Load it onto a device."""
        return GuestModel(self._guest, {**self._file, "device": device})


class GuestModel:
    """A model with weights in a guest; after the guest's death, the next run loads it again."""

    weights_part = ""
    is_foreign = True

    def __init__(self, guest: Guest, request: Message) -> None:
        self._guest, self._request = guest, request
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._child, reply = self._acquire()
        self.framework = str(reply["framework"])
        self.model_sha256 = str(reply["model_sha256"])
        weight_bytes, is_on_cpu = int(reply["resident_bytes"]), request["device"] == "cpu"
        # On a GPU, what a process takes beside its weights is measured with all other processes.
        self.resident_bytes = max(weight_bytes, self._child.own_bytes * is_on_cpu)
        self.is_concurrent = bool(reply["is_concurrent"])
        self.supported: Supported = read_supported(reply["supported"])
        self.untried: Supported = read_supported(reply["untried"])

    def _acquire(self) -> tuple[ChildProcess, Message]:
        """Load the model, and hold the process that has it."""
        guest = self._guest
        with guest.keeper.use():
            reply = guest.request("load", guest.build_limits, model=self._name, **self._request)
            with guest.keeper.use() as child:
                guest.keeper.hold(child)
        return child, reply

    def run(
        self, inputs: Sequence[Any], taps: Sequence[Tap], options: ComputeOptions = DEFAULT
    ) -> BatchRun:
        """Return the activations of each tap, images x shape; the pass stops after the last tap."""
        from ...backends.torch.device import used_cores

        started = time.monotonic()
        child = self._living_child()
        request = {"model": self._name, "options": options.to_dict(), "cores": used_cores()}
        with self._guest.guard(inputs) as limits:
            reply, memory = child.run_pass(inputs, taps, limits, **request)
        raise_error(reply)
        copy_seconds = float(reply["copy_seconds"])
        forward_seconds = time.monotonic() - started - copy_seconds
        wait_seconds = float(reply["wait_seconds"])
        return BatchRun(memory.rows, copy_seconds, forward_seconds, wait_seconds)

    def _living_child(self) -> ChildProcess:
        with self._lock:
            if self._child.is_gone:
                self._child, reply = self._acquire()
                if reply["model_sha256"] != self.model_sha256:
                    raise ChildFault(f"{self._guest.called} changed while it was in use")
            return self._child

    def interrupt(self) -> None:
        """End all passes that run now, with the guest; the next run loads the model again."""
        self._guest.interrupt()

    def close(self) -> None:
        """Free the memory; the guest ends with its last model."""
        if not self._child.is_gone:
            with suppress(BackendCrashedError):
                limits = self._guest.close_limits
                self._child.run("close", limits=limits, model=self._name)
            self._guest.keeper.release(self._child)

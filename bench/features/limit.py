"""The limit: preloaded tensors, the forward pass up to the last module, and storing the rows.

Nothing else. It uses the faster of one lane with all cores and one lane per core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..cases import FeatureCase
from ..inputs import torch_inputs
from ..networks import torch_network
from ..worker import Case, Column, Result, main


class _Stop(Exception):  # noqa: N818 - not an error
    """Ends a forward pass after the last requested module."""


class TruncatedNetwork:
    """A network whose forward passes end after the last of some modules; thread-safe."""

    def __init__(self, network: torch.nn.Module, modules: Sequence[str]) -> None:
        self._network = network
        self._pass = threading.local()
        for place, name in enumerate(modules):
            network.get_submodule(name).register_forward_hook(self._hook(place))

    @classmethod
    def of_case(cls, case: FeatureCase) -> TruncatedNetwork:
        """Return a case's network on its device, which computes in exact float32."""
        use_exact_float32()
        network = torch_network(case.network, case.weights).to(case.device)
        return cls(network, case.modules)

    def run(
        self, batch: torch.Tensor, take: Callable[[int, torch.Tensor], None], count: int
    ) -> None:
        """Hand each module's output to `take`, before a later operation can overwrite it."""
        self._pass.remaining, self._pass.take = count, take
        with suppress(_Stop):
            self._network(batch)

    def _hook(self, place: int) -> Callable[..., None]:
        def keep(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            self._pass.take(place, output)
            self._pass.remaining -= 1
            if not self._pass.remaining:
                raise _Stop

        return keep


def _use_cores(count: int) -> None:
    torch.get_num_threads()  # else the first operation takes the last number of any thread
    torch.set_num_threads(count)


@dataclass(frozen=True)
class _Lanes:
    """Threads that run batches in parallel, each with some cores."""

    count: int
    cores: int
    pool: ThreadPoolExecutor

    @classmethod
    def open(cls, count: int, cores: int) -> _Lanes:
        return cls(count, cores, ThreadPoolExecutor(count, "lane", partial(_use_cores, cores)))


class Limit(Column):
    """The hardware's limit for this network, this batch size and PyTorch's operations."""

    def prepare(self, case: Case) -> None:
        """Make tensors, and find the faster lanes."""
        self._case = FeatureCase(**case)
        self._device = torch.device(self._case.device)
        self._truncated = TruncatedNetwork.of_case(self._case)
        inputs = torch.from_numpy(torch_inputs(self._case))
        pinned = inputs.pin_memory() if self._device.type == "cuda" else inputs
        self._batches: Any = torch.split(pinned, self._case.batch_size)
        self._shapes = self._find_shapes()
        self._lanes = self._find_fastest_lanes()

    def run(self) -> Result:
        """Run all batches, and fill an array for each module."""
        return self._run(self._lanes)

    def notes(self) -> dict[str, Any]:
        """Return which lanes were used."""
        return {"lanes": self._lanes.count, "cores_per_lane": self._lanes.cores}

    def _run(self, lanes: _Lanes) -> Result:
        count = sum(map(len, self._batches))
        pinned = self._device.type == "cuda"
        rows = [torch.empty((count, *shape), pin_memory=pinned) for shape in self._shapes]
        parts = [torch.split(array, self._case.batch_size) for array in rows]
        works = zip(self._batches, *parts, strict=True)
        list(lanes.pool.map(self._run_batch, works))
        return {name: array.numpy() for name, array in zip(self._case.modules, rows, strict=True)}

    @torch.inference_mode()
    def _run_batch(self, work: tuple[torch.Tensor, ...]) -> None:
        batch, *places = work

        def take(place: int, output: torch.Tensor) -> None:
            places[place].copy_(output, non_blocking=True)

        if self._device.type != "cuda":
            self._truncated.run(batch, take, len(places))
            return
        # Each lane has its own stream, so that one can copy while another computes.
        stream: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            self._truncated.run(batch.to(self._device, non_blocking=True), take, len(places))
        stream.synchronize()

    def _find_shapes(self) -> list[torch.Size]:
        shapes = [torch.Size()] * len(self._case.modules)

        def take(place: int, output: torch.Tensor) -> None:
            shapes[place] = output.shape[1:]

        with torch.inference_mode():
            self._truncated.run(self._batches[0][:1].to(self._device), take, len(shapes))
        return shapes

    def _find_fastest_lanes(self) -> _Lanes:
        cores = torch.get_num_threads()
        sides = (
            [(1, cores), (2, cores)] if self._device.type == "cuda" else [(1, cores), (cores, 1)]
        )
        lanes = [_Lanes.open(*side) for side in dict.fromkeys(sides)]
        if len(self._batches) < 2 or len(lanes) < 2:
            return lanes[0]
        return min(lanes, key=self._seconds)

    def _seconds(self, lanes: _Lanes) -> float:
        started = time.perf_counter()
        self._run(lanes)
        return time.perf_counter() - started


def use_exact_float32() -> None:
    """Switch off reduced precision for float32, as the service does."""
    torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Limit)

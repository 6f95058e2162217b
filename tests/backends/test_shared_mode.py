"""Passes that need TF32 and passes that need exact float32 never run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest
import torch

from thingsvision_server.backends.compute_options import Precision
from thingsvision_server.backends.torch.device import arithmetic, use_exact_float32
from thingsvision_server.backends.torch.shared_mode import SharedMode

PATIENCE_SECONDS = 30
CPU = torch.device("cpu")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Pass:
    """A pass in a thread that lasts until the test ends it."""

    def __init__(self, threads: ThreadPoolExecutor, precision: Precision) -> None:
        self.runs = threading.Event()
        self._may_end = threading.Event()
        self.precision = precision
        self.done: Future[tuple[str, str]] = threads.submit(self._run)

    def _run(self) -> tuple[str, str]:
        with arithmetic(CPU, self.precision):
            before = products()
            self.runs.set()
            assert self._may_end.wait(PATIENCE_SECONDS)
            return before, products()

    def end(self) -> None:
        self._may_end.set()


def products() -> str:
    return str(torch.backends.cuda.matmul.fp32_precision)


@contextmanager
def ending(*passes: Pass) -> Iterator[None]:
    """End passes on exit, so that a failure does not leave threads that wait."""
    try:
        yield
    finally:
        for one in passes:
            one.end()
        wait([one.done for one in passes])


def test_tf32_waits_for_exact_passes_and_exact_passes_for_tf32(
    threads: ThreadPoolExecutor,
) -> None:
    use_exact_float32()
    exact, beside = Pass(threads, Precision.FLOAT32), Pass(threads, Precision.BFLOAT16)
    assert exact.runs.wait(PATIENCE_SECONDS)
    assert beside.runs.wait(PATIENCE_SECONDS), "passes of one mode run side by side"
    rounded = Pass(threads, Precision.TF32)
    with ending(exact, beside, rounded):
        assert not rounded.runs.wait(0.2)
        later = Pass(threads, Precision.FLOAT32)
        with ending(later):
            assert not later.runs.wait(0.2), "it came after a pass that waits"
            exact.end()
            beside.end()
            assert rounded.runs.wait(PATIENCE_SECONDS)
            assert not later.runs.wait(0.2)
            rounded.end()
            assert later.runs.wait(PATIENCE_SECONDS)
    assert exact.done.result() == beside.done.result() == later.done.result() == ("ieee", "ieee")
    assert rounded.done.result() == ("tf32", "tf32")


def test_a_failed_pass_leaves_the_mode_to_the_next(threads: ThreadPoolExecutor) -> None:
    use_exact_float32()
    with pytest.raises(ZeroDivisionError), arithmetic(CPU, Precision.TF32):
        raise ZeroDivisionError
    with arithmetic(CPU, Precision.FLOAT32):
        assert products() == "ieee"


def test_many_threads_always_find_the_mode_that_they_asked_for(threads: ThreadPoolExecutor) -> None:
    states = ["first"]
    mode = SharedMode(states.append, "first")

    def use(state: str) -> Callable[[], bool]:
        def look() -> bool:
            with mode.use(state):
                return states[-1] == state

        return look

    works = [use(state) for state in ("first", "second", "second", "third") * 250]
    assert all(threads.map(lambda work: work(), works))

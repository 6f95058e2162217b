"""A thread's operations use as many cores as it has set, from the first operation on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from thingsvision_server.backends.torch.device import use_cores
from thingsvision_server.backends.torch.teams import use_team
from thingsvision_server.rdm.cores import all_cores

ROWS = 65_537


@pytest.fixture(autouse=True)
def own_cores() -> Iterator[None]:
    """Leave this thread the cores that it has."""
    before = torch.get_num_threads()
    yield
    use_cores(before)


def first_count(begin: Callable[[], object], between: int) -> int:
    """Return the cores of a new thread's first operation; another thread sets its own before."""
    begun, over = threading.Event(), threading.Event()

    def work() -> int:
        begin()
        begun.set()
        assert over.wait(30)
        torch.ones(ROWS).sum()
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(work)
        assert begun.wait(30), found.exception(0)
        use_cores(between)
        over.set()
        return found.result(30)


@pytest.mark.parametrize("use", [use_cores, use_team])
@pytest.mark.parametrize("count", [1, 2])
def test_what_another_thread_sets_before_is_not_ours(
    use: Callable[[int], None], count: int
) -> None:
    """Else a lane's first pass would have the cores of another's, and other last bits."""
    assert first_count(lambda: use(count), between=3 - count) == count


def test_threads_that_compute_rdms_use_one_core_each() -> None:
    begun, over = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert over.wait(30)
        torch.ones(ROWS).sum()
        return torch.get_num_threads()

    with all_cores() as cores:
        found = cores._pool.submit(work)
        assert begun.wait(30)
        use_cores(2)
        over.set()
        assert found.result(30) == 1

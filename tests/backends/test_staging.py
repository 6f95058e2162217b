"""The pool lends memory again when nothing refers to it, and keeps to its limit."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from thingsvision_server.backends.staging import Memory, StagingPool, plain_memory

KIB = 2**10


class Allocations:
    """Counts what a pool allocates."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, size_bytes: int) -> Memory:
        self.sizes.append(size_bytes)
        return plain_memory(size_bytes)


def test_memory_is_lent_again_when_no_array_refers_to_it() -> None:
    allocate = Allocations()
    pool = StagingPool(64 * KIB, allocate)
    array = pool.array((3, 5, 100))
    view = torch.from_numpy(array[1:]).view(-1).numpy()[::2]
    address = array.ctypes.data
    del array
    assert pool.array((3, 5, 100)).ctypes.data != address, "a view still refers to it"
    del view
    assert pool.array((6, 300), "uint8").ctypes.data != 0
    assert allocate.sizes == [8 * KIB, 8 * KIB, 4 * KIB]
    lent = [pool.array((3, 5, 100)) for _ in range(2)]
    assert address in [one.ctypes.data for one in lent]
    assert len(allocate.sizes) == 3
    assert pool.held_bytes == 20 * KIB


def test_what_does_not_fit_is_ordinary_memory() -> None:
    pool = StagingPool(8 * KIB)
    lent = [pool.array((KIB,)) for _ in range(5)]
    assert pool.held_bytes == 8 * KIB
    for number, array in enumerate(lent):
        array.fill(number)
    assert [set(array.tolist()) for array in lent] == [{float(number)} for number in range(5)]
    del lent, array
    assert StagingPool(0).array((2, 3)).shape == (2, 3)


def test_free_blocks_make_room_for_blocks_of_other_sizes() -> None:
    allocate = Allocations()
    pool = StagingPool(16 * KIB, allocate)
    small = [pool.array((KIB,)) for _ in range(3)]
    del small
    large = pool.array((2 * KIB,))
    assert pool.held_bytes <= 16 * KIB
    assert allocate.sizes[-1] == 8 * KIB
    pool.trim()
    assert pool.held_bytes == large.nbytes
    del large
    pool.trim()
    assert pool.held_bytes == 0


def test_arrays_are_aligned_and_may_be_empty() -> None:
    pool = StagingPool(KIB * KIB)
    for shape in [(1,), (7, 3), (0, 5), (1000, 1000)]:
        array = pool.array(shape)
        assert array.shape == shape
        assert array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0
        assert array.flags.writeable


def test_a_failed_allocation_takes_nothing_of_the_limit() -> None:
    def fail(_size_bytes: int) -> Memory:
        raise MemoryError

    pool = StagingPool(64 * KIB, fail)
    with pytest.raises(MemoryError):
        pool.array((KIB,))
    assert pool.held_bytes == 0


def test_threads_never_share_a_block() -> None:
    pool = StagingPool(64 * KIB)

    def work(number: int) -> bool:
        array = pool.array((KIB,), np.int64)
        array.fill(number)
        return bool((array == number).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(2000)))
    gc.collect()
    assert pool.held_bytes <= 64 * KIB

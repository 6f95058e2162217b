"""Threads for the processor's cores: in order, alone, and nothing stays behind."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.cores import all_cores
from thingsvision_server.rdm.metrics import METRICS
from thingsvision_server.rdm.pca import compute_pca
from thingsvision_server.rdm.rows import ArrayRows


def product_threads():
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return {library.num_threads for library in libraries}


def test_results_come_in_order():
    with all_cores() as cores:
        assert list(cores.each(pow, [(base, 2) for base in range(500)])) == [
            base**2 for base in range(500)
        ]


def test_products_stay_in_their_thread_while_anyone_is_inside():
    usual = product_threads()
    with all_cores():
        with all_cores() as cores:
            assert list(cores.each(product_threads, [()])) == [{1}]
        assert product_threads() == {1}
    assert product_threads() == usual


def test_an_error_drops_the_rest_and_restores():
    usual, begun = product_threads(), []

    def piece(number):
        begun.append(number)
        time.sleep(0.001)
        return 1 / number

    def work():
        with all_cores() as cores:
            list(cores.each(piece, [(number,) for number in range(10_000)]))

    with pytest.raises(ZeroDivisionError):
        work()
    assert len(begun) < 10_000
    assert product_threads() == usual


def test_every_thread_can_ask_while_others_live():
    def inside():
        with all_cores() as cores:
            return list(cores.each(product_threads, [()]))

    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        for requests in (first, second, first):
            assert requests.submit(inside).result() == [{1}]


HASHED = ["correlation", "gaussian"]
DIGESTS = """
import hashlib, sys
import numpy as np
from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.rows import ArrayRows

x = np.random.default_rng(0).standard_normal((700, 900)).astype("float32")
for metric in sys.argv[1:]:
    print(hashlib.sha256(compute_rdm(ArrayRows(x), metric).distances).hexdigest())
"""


@pytest.fixture(scope="module")
def digests():
    """For each metric, the digests of RDMs by 1, 2 and 3 threads."""
    found = []
    for count in "123":
        many = os.environ | {"OPENBLAS_NUM_THREADS": count}
        command = [sys.executable, "-c", DIGESTS, *HASHED]
        done = subprocess.run(command, env=many, check=True, capture_output=True, text=True)
        found.append(done.stdout.split())
    return dict(zip(HASHED, zip(*found, strict=True), strict=True))


@pytest.mark.parametrize("metric", HASHED)
def test_bits_do_not_depend_on_the_number_of_threads(digests, metric):
    assert len(digests[metric]) == 3
    assert len(set(digests[metric])) == 1


class WholeRows(ArrayRows):
    def rows(self, start, stop):
        return self.array[start:stop]


@pytest.mark.parametrize("metric", [*METRICS, "pca"])
def test_without_the_threads_values_are_the_same_to_rounding(metric):
    usual, threads = product_threads(), {True: [], False: []}
    x = np.random.default_rng(0).standard_normal((600, 900)).astype("float32")
    x[7] = x[3]

    def compute(*, thread_pool):
        def on_block(_done, _total):
            threads[thread_pool].append(product_threads())

        options = {"on_block": on_block, "thread_pool": thread_pool}
        if metric == "pca":
            return compute_pca(WholeRows(x), 5, **options).variances
        return compute_rdm(ArrayRows(x), metric, **options).distances

    np.testing.assert_allclose(
        compute(thread_pool=False), compute(thread_pool=True), rtol=1e-9, atol=1e-13
    )
    assert all(found == usual for found in threads[False])
    assert {1} in threads[True]

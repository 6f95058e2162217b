"""Threads for the processor's cores: in order, alone, and nothing stays behind."""

import time

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from thingsvision_server.rdm.compare import compute_rdm
from thingsvision_server.rdm.cores import all_cores
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


def test_bits_do_not_depend_on_the_number_of_threads():
    random = np.random.default_rng(0)
    x = random.standard_normal((700, 900)).astype("float32")
    libraries = ThreadpoolController().select(user_api="blas")
    for metric in ("correlation", "gaussian"):
        usual = compute_rdm(ArrayRows(x), metric).distances
        with libraries.limit(limits=1):
            np.testing.assert_array_equal(compute_rdm(ArrayRows(x), metric).distances, usual)

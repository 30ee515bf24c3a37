"""A network run by the reference: inputs as people have them, some at a time, and no more than there is memory for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from cnnlens.errors import CnnlensError
from cnnlens.reference.threads import one_blas_thread
from cnnlens.testing import inputs_for, network
from tests.support.random_networks import random_network

CHAIN = network("chain")


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
def test_some_at_a_time_give_what_all_give(batch: int) -> None:
    for made in (CHAIN, random_network(3)):
        (given,) = inputs_for(made, 7)
        whole = made.run(given, batch=7)
        for name, array in made.run(given, batch=batch).items():
            np.testing.assert_allclose(array, whole[name], rtol=1e-12, atol=1e-12)
    with pytest.raises(CnnlensError, match="at least one input"):
        CHAIN.run(inputs_for(CHAIN, 2), batch=-1)


def test_either_order_of_axes_and_one_image_alone_are_taken() -> None:
    (given,) = inputs_for(CHAIN, 3)
    wanted = CHAIN.run(given)
    for name, array in CHAIN.run(np.moveaxis(given, 1, -1)).items():
        np.testing.assert_array_equal(array, wanted[name])
    for name, array in CHAIN.run(given[0]).items():
        np.testing.assert_allclose(array, wanted[name][:1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [np.zeros((2, 5)), np.float32(3), np.zeros((2, 3, 500, 2)), np.zeros(0)])
def test_what_is_no_input_is_told_in_a_line(wrong: Any) -> None:
    with pytest.raises(CnnlensError, match=r"was expected, .* came"):
        CHAIN.run(wrong)


def test_more_than_there_is_memory_for_is_refused_before_anything_is_computed() -> None:
    (one,) = inputs_for(CHAIN, 1)
    with pytest.raises(CnnlensError, match="ask for fewer or smaller inputs"):
        CHAIN.run(np.broadcast_to(one, (1 << 33, *one.shape[1:])), ["first"])


# -- one thread ------------------------------------------------------------------------------------------------------


def blas() -> list[int]:
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_blas_has_one_thread_until_the_outermost_call_has_ended() -> None:
    before = blas()
    for _ in range(2):
        with one_blas_thread():
            assert set(blas()) <= {1}
            with one_blas_thread():
                assert set(blas()) <= {1}
            assert set(blas()) <= {1}
        assert blas() == before


def test_blas_has_its_threads_again_whichever_thread_ends_last() -> None:
    before, entered, first_has_left = blas(), threading.Event(), threading.Event()

    def second() -> list[int]:
        with one_blas_thread():
            entered.set()
            assert first_has_left.wait(60)
            return blas()

    with ThreadPoolExecutor(1) as pool:
        with one_blas_thread():
            held = pool.submit(second)
            assert entered.wait(60)
        first_has_left.set()
        assert set(held.result()) <= {1}
        assert blas() == before

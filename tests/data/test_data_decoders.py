"""Threads share out a batch: the same images, and errors are those of one thread."""

import os
import threading
import time

import numpy as np
import pytest

from rl_jax.data import Source, examples
from rl_jax.data.decoders import Decoders, Threads, cores
from rl_jax.errors import WorkerError


def counting(size=37, *, wait=0.0, bad=()):
    seen = set()

    def load(i):
        seen.add(threading.get_ident())
        time.sleep(wait)
        if i in bad:
            raise ValueError(f"image {i}")
        return np.full((2, 3, 1), i, np.uint8)

    return Source("counting", size, (2, 3, 1), load), seen


@pytest.fixture
def decoders():
    found = Decoders(3)
    yield found
    found.close()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12, 13, 37])
def test_all_images_are_where_they_belong(decoders, count):
    source, _ = counting()
    index = np.random.default_rng(0).permutation(37)[:count].astype(np.int32)
    found = examples(source, index, decoders=decoders)["image"]
    np.testing.assert_array_equal(found, examples(source, index)["image"])
    np.testing.assert_array_equal(found[:, 0, 0, 0], index)


def test_a_batch_is_shared_out(decoders):
    source, seen = counting(wait=0.01)
    examples(source, np.arange(24, dtype=np.int32), decoders=decoders)
    assert len(seen) == 3
    assert threading.get_ident() not in seen


def test_the_first_error_is_raised_and_the_next_batch_is_whole(decoders):
    source, _ = counting(bad={5, 30})
    with pytest.raises(ValueError, match="image 5"):
        examples(source, np.arange(37, dtype=np.int32), decoders=decoders)
    index = np.arange(6, 30, dtype=np.int32)
    found = examples(source, index, decoders=decoders)["image"]
    np.testing.assert_array_equal(found[:, 0, 0, 0], index)


def test_closing_ends_the_threads():
    before = set(threading.enumerate())
    source, _ = counting(wait=0.01)
    found = Decoders(2)
    examples(source, np.arange(8, dtype=np.int32), decoders=found)
    made = set(threading.enumerate()) - before
    assert len(made) == 2
    found.close()
    for thread in made:
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_processors_are_those_of_this_process():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert cores() == len(allowed)


def test_closing_tells_who_waits():
    """Though the call never returns; and so does asking of what is closed."""
    begun, go = threading.Event(), threading.Event()

    def call():
        begun.set()
        go.wait()

    threads = Threads(1, "test")
    running, waiting = threads.submit(call), threads.submit(call)
    assert begun.wait(5)
    threads.close()
    for future in (running, waiting, threads.submit(call)):
        with pytest.raises(WorkerError, match="closed before all was read"):
            future.result(5)
    go.set()

"""Batches of chosen examples come in order, each made once, some ahead."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from rl_jax import data
from rl_jax.data import Source


def counting(*, bad=None):
    loaded, lock = [], threading.Lock()

    def load(i):
        if i == bad:
            raise ValueError(f"image {i}")
        with lock:
            loaded.append(i)
        return np.full((2, 2, 1), i, np.uint8)

    labels = np.arange(50, dtype=np.int32)
    return Source("counting", 50, (2, 2, 1), load, labels), loaded


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_batches_are_examples_of_each_index_in_order(threads):
    source, loaded = counting()
    rng = np.random.default_rng(0)
    indices = [rng.permutation(50)[:k].astype(np.int32) for k in (7, 1, 12, 5, 9)]
    found = list(data.batches(source, indices, threads=threads))
    assert len(loaded) == 34
    for batch, index in zip(found, indices, strict=True):
        expected = data.examples(source, index)
        assert batch.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(batch[name], values)
    assert list(data.batches(source, [], threads=threads)) == []


def test_two_batches_are_made_ahead_and_no_more():
    source, _ = counting()
    asked = []

    def indices():
        for k in range(25):
            asked.append(k)
            yield np.array([2 * k, 2 * k + 1], np.int32)

    batches = data.batches(source, indices())
    for given in range(1, 6):
        next(batches)
        assert len(asked) == given + 2
    batches.close()


def test_an_error_comes_where_its_batch_would_be_and_threads_end():
    before = set(threading.enumerate())
    source, _ = counting(bad=5)
    indices = [np.array(pair, np.int32) for pair in ([0, 1], [2, 5], [6, 7])]
    batches = data.batches(source, indices)
    assert next(batches)["label"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="image 5"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_images_in_memory_need_no_threads():
    held = data.arrays(np.zeros((8, 2, 2), np.uint8))
    before = set(threading.enumerate())
    batches = data.batches(held, [np.arange(4, dtype=np.int32)] * 2)
    assert next(batches)["image"].shape == (4, 2, 2, 1)
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_out_of_range(refused, threads):
    source, _ = counting()
    with refused(f"batches: threads must be >= 1, got {threads}"):
        data.batches(source, [], threads=threads)


@pytest.mark.fault
@pytest.mark.parametrize(
    "read",
    [
        "data.stream(source, seed=0, batch_size=4, num_steps=9, timeout=0.5)",
        "data.batches(source, [np.arange(4)] * 9, timeout=0.5)",
    ],
)
def test_a_read_that_never_returns_holds_no_process_up(read):
    """The error comes in time, and the process ends with it."""
    code = f"""
import sys, threading
import numpy as np
from rl_jax import data
from rl_jax.errors import WorkerError

def load(i):
    if i == 2:
        threading.Event().wait()
    return np.zeros((2, 2, 1), np.uint8)

source = data.Source("stuck", 40, (2, 2, 1), load)
try:
    for _ in {read}:
        pass
except WorkerError as error:
    print(error)
    sys.exit(5)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 5
    assert found.stdout.startswith("data: no batch within 0.5 s: decoding stalled in")
    assert found.stderr == ""


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan")])
def test_timeout_out_of_range(refused, timeout):
    source, _ = counting()
    with refused(f"batches: timeout must be > 0 seconds, got {timeout}"):
        data.batches(source, [], timeout=timeout)

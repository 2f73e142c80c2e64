"""The order of examples: golden values, purity, coverage."""

import hashlib
import threading

import numpy as np
import pytest

from rl_jax.data import batch_indices, epoch_order, steps_per_epoch


def test_golden_values():
    # Any change here changes every stream of every user: resumes would diverge.
    np.testing.assert_array_equal(epoch_order(0, 0, 10), [0, 2, 9, 1, 8, 5, 4, 3, 6, 7])
    np.testing.assert_array_equal(epoch_order(0, 1, 10), [5, 3, 7, 8, 2, 4, 1, 0, 6, 9])
    np.testing.assert_array_equal(epoch_order(1, 0, 10), [3, 5, 2, 9, 7, 0, 8, 6, 1, 4])
    np.testing.assert_array_equal(batch_indices(7, 5, size=10, batch_size=3), [4, 8, 0])
    digest = hashlib.sha256(epoch_order(2**64 - 1, 3, 100_003).astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "54901ba48d75e3b6"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_order_is_a_permutation(size):
    order = epoch_order(3, 4, size)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_order_depends_on_seed_and_epoch_only():
    first = epoch_order(5, 6, 100).copy()
    for other in range(10):  # more than the cache holds
        epoch_order(other, 0, 100)
    np.testing.assert_array_equal(epoch_order(5, 6, 100), first)
    for seed, epoch in ((6, 6), (5, 7), (6, 5)):
        assert (epoch_order(seed, epoch, 100) != first).any()


def test_cached_order_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(0, 0, 10)[0] = 5
    batch_indices(0, 0, size=10, batch_size=2)[:] = -1
    assert batch_indices(0, 0, size=10, batch_size=2).min() >= 0


def test_orders_of_epochs_are_not_correlated():
    orders = np.stack([epoch_order(0, epoch, 2000) for epoch in range(8)])
    correlation = np.corrcoef(orders) - np.eye(8)
    assert np.abs(correlation).max() < 0.1  # 4.5 standard errors


@pytest.mark.parametrize(("size", "batch_size"), [(12, 4), (13, 4), (5, 5), (3, 1)])
def test_batches_partition_the_epoch(size, batch_size):
    steps = steps_per_epoch(size, batch_size)
    for epoch in range(3):
        batches = [
            batch_indices(9, epoch * steps + i, size=size, batch_size=batch_size)
            for i in range(steps)
        ]
        seen = np.concatenate(batches)
        assert all(batch.shape == (batch_size,) for batch in batches)
        assert len(np.unique(seen)) == len(seen) == size - size % batch_size
        np.testing.assert_array_equal(seen, epoch_order(9, epoch, size)[: len(seen)])


def test_every_example_is_seen_in_the_long_run():
    seen = {
        int(i) for t in range(20) for i in batch_indices(0, t, size=7, batch_size=4)
    }
    assert seen == set(range(7))


def test_a_far_step_is_reached_directly():
    batch = batch_indices(0, 10**12 + 1, size=10, batch_size=5)
    np.testing.assert_array_equal(batch, epoch_order(0, 5 * 10**11, 10)[5:])


def test_threads_agree():
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(epoch_order(11, 0, 20_000)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result is results[0] for result in results)


def test_messages(refused):
    with refused("batch_size", "<= the 5 examples", "got 8"):
        batch_indices(0, 0, size=5, batch_size=8)
    with refused("batch_size must be >= 1, got 0"):
        batch_indices(0, 0, size=5, batch_size=0)
    with refused("step must be >= 0, got -1"):
        batch_indices(0, -1, size=5, batch_size=2)
    with refused(r"seed must be in \[0, 2\^64\), got -3"):
        epoch_order(-3, 0, 5)
    with refused(r"seed .* got 18446744073709551616"):
        batch_indices(2**64, 0, size=5, batch_size=2)
    with refused("size must be .* got 0"):
        epoch_order(0, 0, 0)

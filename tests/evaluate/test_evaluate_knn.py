"""k-NN: the vote of Wu et al., from training labels only."""

import numpy as np
import pytest
from reference import evaluate as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError


def problem(seed, n=60, queries=40, dim=5, classes=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + queries, dim)).astype(np.float32)
    y = rng.integers(0, classes, n + queries).astype(np.int32)
    return x[:n], y[:n], x[n:], y[n:]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0)])
def test_equals_the_reference(k, temperature):
    x, y, q, labels = problem(0)
    found = evaluate.knn(x, y, q, k=k, temperature=temperature)
    target = reference.knn(x, y, q, k=k, temperature=temperature)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, target)
    accuracy = evaluate.knn_accuracy(x, y, q, labels, k=k, temperature=temperature)
    assert accuracy == pytest.approx(np.mean(target == labels))


def test_the_temperature_weighs_the_vote():
    # One very near neighbour of class 0 against two of class 1 at cosine 0.8.
    x = np.float32([[1, 0], [0.8, 0.6], [0.8, -0.6]])
    y, query = np.array([0, 1, 1]), np.float32([[2, 0]])
    assert int(evaluate.knn(x, y, query, k=3, temperature=0.1)[0]) == 0
    assert int(evaluate.knn(x, y, query, k=3, temperature=1.0)[0]) == 1


def test_a_tiny_temperature_neither_overflows_nor_vanishes():
    x, y, q, _ = problem(1)
    found = evaluate.knn(x, y, q, k=20, temperature=1e-4)
    np.testing.assert_array_equal(found, evaluate.knn(x, y, q, k=1))


def test_more_neighbours_than_rows_means_all_of_them():
    x, y, q, _ = problem(2, n=4)
    np.testing.assert_array_equal(
        evaluate.knn(x, y, q, k=20), evaluate.knn(x, y, q, k=4)
    )


def test_neither_order_nor_length_of_rows_matters():
    x, y, q, _ = problem(3)
    order = np.random.default_rng(4).permutation(len(x))
    lengths = np.random.default_rng(5).uniform(0.1, 9, (len(x), 1)).astype(np.float32)
    found = evaluate.knn((x * lengths)[order], y[order], 3 * q)
    np.testing.assert_array_equal(found, evaluate.knn(x, y, q))


def test_a_class_only_the_test_part_has_is_wrong_not_an_error():
    x, y, q, _ = problem(6)
    assert evaluate.knn_accuracy(x, y, q, np.full(len(q), 9)) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "knn: k must be >= 1, got 0"),
        ({"temperature": -0.1}, "knn: temperature must be > 0, got -0.1"),
        ({"num_classes": 2}, r"knn: labels must be in \[0, 2\), got up to 3"),
        ({"labels": np.full(60, -1)}, "leave unlabelled rows"),
        (
            {"labels": np.zeros(3, int)},
            r"labels must be int \[60\], .* int64 \[3\]",
        ),
    ],
)
def test_wrong_arguments_are_named(change, message):
    x, y, q, _ = problem(0)
    arguments = {"features": x, "labels": y, "queries": q} | change
    with pytest.raises(UsageError, match=message):
        evaluate.knn(**arguments)


def test_a_missing_test_label_is_named():
    x, y, q, labels = problem(0)
    with pytest.raises(UsageError, match=r"query_labels must be int \[40\]"):
        evaluate.knn_accuracy(x, y, q, labels[:-1])


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1e-10, "f4"), (1e10, "f4"), (1e-4, "f2"), (1e-30, "f4"), (1e30, "f4")],
)
def test_short_and_long_rows_have_the_same_neighbours(scale, dtype):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 8)).astype(dtype)
    y = rng.integers(0, 3, 40)
    moved = (x * np.asarray(scale, dtype)).astype(dtype)
    # What float16 makes of short rows is their own.
    plain = moved.astype("f4") / np.float32(scale)
    found = evaluate.knn(moved[:40], y, moved[40:], k=3)
    np.testing.assert_array_equal(found, evaluate.knn(plain[:40], y, plain[40:], k=3))


def test_labels_may_have_any_numbers():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 8)).astype("f4"), rng.integers(0, 3, 60)
    found = [
        evaluate.knn_accuracy(x[:40], y[:40] * scale, x[40:], y[40:] * scale)
        for scale in (1, 10**9, 2**31)
    ]
    assert found[0] == found[1] == found[2]
    with pytest.raises(UsageError, match="labels must be below 2.31, got"):
        evaluate.knn(x[:40], y[:40] * 2**31, x[40:])


def test_features_of_whole_numbers():
    rng = np.random.default_rng(0)
    bank, queries = (rng.integers(0, 255, (n, 6), np.uint8) for n in (40, 9))
    labels = np.arange(40) % 3
    found = evaluate.knn(bank, labels, queries, k=3)
    as_floats = (x.astype(np.float32) for x in (bank, queries))
    bank, queries = as_floats
    np.testing.assert_array_equal(found, evaluate.knn(bank, labels, queries, k=3))

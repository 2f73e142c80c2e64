"""Hubness: stars, brute force, scipy's skewness, and what normalisation does."""

import numpy as np
import pytest
import scipy.stats
from reference import comparison as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def long_and_short(n=400, dim=20):
    lengths = np.random.default_rng(5).lognormal(size=(n, 1)).astype(np.float32)
    return normals(0, n, dim) * lengths


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("k", [1, 5])
def test_equals_the_reference_and_scipy(metric, k):
    x = long_and_short(80, 6) + 0.5
    found = evaluate.hubness(x, k=k, metric=metric)
    count = reference.occurrence(x, k, metric)
    np.testing.assert_array_equal(found.occurrence, count)
    assert count.mean() == k
    assert found.skewness == pytest.approx(scipy.stats.skew(count), rel=1e-12)
    assert found.orphans == np.mean(count == 0)


def test_the_centre_of_a_star_is_a_hub():
    # The tips are further from each other than from the centre, which comes last.
    star = np.concatenate([10 * np.eye(9), np.zeros((1, 9))]) + 3
    found = evaluate.hubness(star, k=1, metric="euclidean")
    assert found.occurrence.tolist() == [1] + [0] * 8 + [9]
    assert found.orphans == 0.8
    # k-occurrence minus 1: 0, -1 (eight times), 8.
    assert found.skewness == pytest.approx((512 - 8) / 10 / (72 / 10) ** 1.5)


def test_a_ring_has_no_hub():
    angle = 2 * np.pi * np.arange(12) / 12
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for metric in ("cosine", "euclidean", "dot"):
        found = evaluate.hubness(ring, k=2, metric=metric)
        assert found.occurrence.tolist() == [2] * 12
        assert found.skewness == found.orphans == 0.0


def test_all_neighbours_are_everybodys():
    found = evaluate.hubness(normals(1, 7, 3), k=6)
    assert found.occurrence.tolist() == [6] * 7


def test_normalisation_lowers_the_skewness():
    x = long_and_short()
    cosine, euclidean, dot = (
        evaluate.hubness(x, metric=metric).skewness
        for metric in ("cosine", "euclidean", "dot")
    )
    assert cosine + 1 < euclidean
    assert cosine + 1 < dot


def test_hubs_come_with_dimension():
    """Between Gaussian rows; on the sphere, where no row is central, they do not."""
    found = {
        metric: [
            evaluate.hubness(normals(2, 400, d), metric=metric).skewness
            for d in (3, 100)
        ]
        for metric in ("euclidean", "cosine")
    }
    assert found["euclidean"][0] + 1 < found["euclidean"][1]
    assert max(found["cosine"]) < 0.5


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_scale_and_rotation_change_nothing(metric):
    x = long_and_short(80, 6)
    turn = np.linalg.qr(normals(3, 6, 6))[0]
    target = evaluate.hubness(x, metric=metric).occurrence
    for same in (x @ turn, 1e-20 * x, 1e20 * x):
        found = evaluate.hubness(same.astype(np.float32), metric=metric)
        np.testing.assert_array_equal(found.occurrence, target)
    if metric == "cosine":
        lengths = np.random.default_rng(4).uniform(0.1, 9, (80, 1))
        found = evaluate.hubness(lengths * x, metric=metric)
        np.testing.assert_array_equal(found.occurrence, target)
    if metric == "euclidean":
        found = evaluate.hubness(x + 30, metric=metric)
        np.testing.assert_array_equal(found.occurrence, target)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.eye(4), {"k": 4}, r"k must be in \[1, 3\], the other rows, got 4"),
        (np.eye(4), {"k": 0}, r"k must be in .* got 0"),
        (np.eye(4), {"k": 1, "metric": "l2"}, "metric must be .* got 'l2'"),
        (np.ones(4), {}, r"features must be .* got \(4,\)"),
        (np.full((4, 2), np.nan), {"k": 1}, "features must be finite"),
        (np.eye(4, 3), {"k": 1}, "row 3 of features is zero"),
    ],
)
def test_wrong_arguments_are_named(x, options, message):
    with pytest.raises(UsageError, match=f"hubness: {message}"):
        evaluate.hubness(x, **options)

"""Blocks of rows give what all rows at once give, and hold no more than blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.evaluate import probabilities

from rl_jax import evaluate
from rl_jax.evaluate import axes, blocks, probe, regression
from rl_jax.evaluate.labels import fold_weights
from rl_jax.evaluate.mlp_probe import _fit as fit_mlp


@pytest.fixture
def small(monkeypatch):
    """Blocks of few rows, in programs that no other test uses."""

    def to(*, host=800, device=2000, least=1):
        monkeypatch.setattr(blocks, "HOST_BYTES", host)
        monkeypatch.setattr(blocks, "DEVICE_BYTES", dict.fromkeys(("cpu",), device))
        monkeypatch.setattr(blocks, "_LEAST_ROWS", least)
        jax.clear_caches()

    yield to
    jax.clear_caches()


@pytest.mark.parametrize("n", [1, 6, 7, 12, 13, 20])
def test_every_row_counts_once(n):
    x = jnp.arange(2.0 * n).reshape(1, n, 2) + 1

    def of(cut, new):
        block = cut(x, axis=1)
        assert block.shape == (1, min(n, 6), 2)
        return {"sum": (new[None, :, None] * block).sum(1), "rows": new.sum()}

    found = blocks.sum_over_rows(of, n, 6)
    np.testing.assert_array_equal(found["sum"], x.sum(1))
    assert found["rows"] == n


@pytest.mark.parametrize("n", [1, 9, 10, 11, 25])
def test_slices_are_all_rows_in_order(small, n):
    small(host=10 * 8 * 3)
    rows = [np.arange(n)[each] for each in blocks.slices(np.zeros((n, 3)))]
    assert [len(each) for each in rows] == [10] * (n // 10) + [n % 10] * (n % 10 > 0)
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(n))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8])
def test_standardised_rows_and_their_axes(small, dtype):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(57, 5)) @ rng.normal(size=(5, 5)) * 20 + 100).astype(dtype)
    whole = x.astype(np.float64)
    small()
    std = axes.deviation(x)
    np.testing.assert_allclose(std, whole.std(0), rtol=1e-12)
    found = blocks.standardised(x, whole.mean(0), 1 / std)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-6)

    scores, basis = axes.to_axes(x, whole.mean(0), std)
    rotated = np.concatenate([scores(rows) for rows in blocks.slices(x)])
    covariance = rotated.T @ rotated
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    back = rotated @ basis.T * std + whole.mean(0)
    np.testing.assert_allclose(back, whole, rtol=1e-9)


def test_logistic_regression(small, digits):
    """Three groups of two problems; 500 rows are not a multiple of any block."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(500) for _ in range(3)])
    y = digits.train_y[rows]
    weights = np.stack([fold_weights(labels, 5)[[0, -1]] for labels in y])
    weights[1] *= rng.uniform(0.5, 2, 500).astype(np.float32)
    counted = (rng.uniform(size=(3, 500)) < 0.8).astype(np.float32)
    fit = functools.partial(
        regression.logistic_path,
        *(digits.train_x[rows], y, weights, np.float32([0.1, 0.01])),
        num_classes=10,
        counted=counted,
    )
    small(device=2**30)
    whole = fit()
    small(device=4 * 3 * 2 * 10 * 47)
    found = fit()
    # Both stop where probabilities are exact to 1e-3.
    for got, expected in zip(found[:2], whole[:2], strict=True):
        np.testing.assert_allclose(got, expected, atol=3e-3)
    np.testing.assert_allclose(found.held_out, whole.held_out, rtol=1e-4)
    assert (whole.held_out[:, :, 1] == 0).all()


def test_each_group_may_have_its_own_strength(digits):
    x, y = np.stack([digits.train_x] * 2), np.stack([digits.train_y] * 2)
    fit = functools.partial(
        regression.logistic_path, x, y, np.ones((2, 1, 500), np.float32), num_classes=10
    )
    both = fit(np.float32([[0.3, 0.003]]))
    for group, l2 in enumerate([0.3, 0.003]):
        w, b = evaluate.logistic(*digits[:2], num_classes=10, l2=l2)
        np.testing.assert_allclose(both.weights[0, group, 0], w, atol=2e-2)
        np.testing.assert_allclose(both.bias[0, group, 0], b, atol=2e-2)
    assert np.abs(both.weights[0, 0] - both.weights[0, 1]).max() > 0.3


def test_ridge_and_a_hidden_layer(small, digits):
    ridge = functools.partial(evaluate.ridge_probe, *digits)
    hidden = functools.partial(evaluate.mlp_probe, *digits, draws=1, steps=50)
    whole = ridge(), hidden()
    small()
    found = ridge(), hidden()
    for got, expected in zip(found, whole, strict=True):
        assert got.accuracies == expected.accuracies
        np.testing.assert_allclose(got.l2, expected.l2, rtol=1e-9)
    rng = np.random.default_rng(0)
    y = digits.train_x[:, 20:23] + rng.normal(size=(500, 3))
    once = evaluate.ridge(digits.train_x, y)
    small(host=2**30)
    for got, expected in zip(once, evaluate.ridge(digits.train_x, y), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_of_many_labels_one_fold_tells_the_strength(monkeypatch, digits):
    """Then all labels are fitted with it, as the strength of all folds would be."""
    monkeypatch.setattr(probe, "L2_MANY_LABELS", ())
    monkeypatch.setattr(probe, "MANY_LABELS", 499)
    found = evaluate.fit_probe(*digits[:2])
    x, y = digits[:2]
    scores, basis = axes.to_axes(x, x.mean(0, dtype=np.float64), axes.deviation(x))
    path = regression.logistic_path(
        *(scores(slice(None)).astype(np.float32)[None], y[None]),
        fold_weights(y, 5)[None, :1],
        np.float32(probe.L2_GRID),
        num_classes=10,
    )
    assert found.l2[0] == probe.L2_GRID[int(path.held_out[:, 0, 0].argmin())]
    w, b = evaluate.logistic(
        (x - x.mean(0)) / axes.deviation(x), y, num_classes=10, l2=float(found.l2[0])
    )
    standard = (x - x.mean(0)) / axes.deviation(x)
    p = probabilities(x, found.weights[0], found.bias[0])
    q = probabilities(standard, w, b)
    np.testing.assert_allclose(p, q, atol=2e-3)
    assert found.n == 500
    share = evaluate.linear_probe(*digits, labels_per_class=30, draws=3)
    monkeypatch.setattr(probe, "MANY_LABELS", 299)
    one = evaluate.linear_probe(*digits, labels_per_class=30, draws=3)
    np.testing.assert_allclose(one.accuracies, share.accuracies, atol=0.03)


def test_memory_does_not_grow_with_rows_times_classes():
    """ImageNet's images and classes in the width of ResNet-50: features are 9.8 GiB."""
    n, dim, classes = 1_281_167, 2048, 1000
    shape = jax.ShapeDtypeStruct
    x, y = shape((1, n, dim), jnp.float32), shape((1, n), jnp.int32)
    path = regression.logistic_path.lower(
        *(x, y, shape((1, 1, n), jnp.float32), shape((12,), jnp.float32)),
        num_classes=classes,
        counted=shape((1, n), jnp.float32),
    )
    one = shape((1,), jax.eval_shape(jax.random.key, 0).dtype)
    hidden = fit_mlp.lower(
        *(one, x, y, shape((1, 2, n), jnp.float32), shape((1, n), jnp.float32)),
        *(shape((3,), jnp.float32), shape((3000, 128), jnp.int32)),
        hidden=256,
        classes=classes,
    )
    for program in (path, hidden):
        analysis = program.compile().memory_analysis()
        assert analysis is not None
        assert analysis.temp_size_in_bytes < 2**31

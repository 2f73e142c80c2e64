"""Maps: principal components exactly, t-SNE by its own objective."""

import numpy as np
import pytest
from reference import assert_close
from reference import evaluate as reference
from sklearn.manifold import TSNE

from rl_jax import evaluate
from rl_jax.errors import UsageError


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_components_equal_the_singular_vectors():
    x = normals(0, 30, 6) * np.float32([1, 5, 1, 3, 1, 1]) + 7
    found = np.asarray(evaluate.pca_2d(x))
    assert found.dtype == np.float32
    centred = x - x.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])
    assert_close(found, centred @ (axes[:2] * signs[:, None]).T, tolerance=1e-5)
    assert found[:, 0].std() > found[:, 1].std()


@pytest.fixture(scope="module")
def digits_map(digits):
    return evaluate.tsne(digits.test_x, seed=0)


def test_the_map_keeps_classes_together(digits, digits_map):
    assert digits_map.shape == (300, 2)
    np.testing.assert_allclose(digits_map.mean(0), 0.0, atol=1e-3)
    distance = ((digits_map[:, None] - digits_map[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    same = digits.test_y[distance.argmin(1)] == digits.test_y
    assert same.mean() >= 0.93


def test_the_objective_is_as_low_as_scikit_learns(digits, digits_map):
    p = reference.tsne_affinities(digits.test_x, 30)
    peer = TSNE(init="pca", random_state=0).fit_transform(digits.test_x)
    found = reference.tsne_divergence(p, digits_map)
    assert found <= 1.1 * reference.tsne_divergence(p, peer)
    linear = np.asarray(evaluate.pca_2d(digits.test_x))
    assert found <= 0.7 * reference.tsne_divergence(p, linear)


def test_the_map_is_reproducible_and_ignores_scale(digits, digits_map):
    again = evaluate.tsne(digits.test_x, seed=0)
    np.testing.assert_array_equal(again, digits_map)
    p = reference.tsne_affinities(digits.test_x, 30)
    scaled = evaluate.tsne(1e3 * digits.test_x, seed=1)
    assert reference.tsne_divergence(p, scaled) == pytest.approx(
        reference.tsne_divergence(p, digits_map), rel=0.2
    )


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_any_scale_gives_the_same_map(digits, scale):
    x = digits.test_x[:60]
    scaled = (x * scale).astype(np.float32)
    np.testing.assert_allclose(
        evaluate.pca_2d(scaled) / scale, evaluate.pca_2d(x), rtol=1e-3, atol=1e-3
    )
    same = evaluate.tsne(scaled, steps=5)
    np.testing.assert_allclose(same, evaluate.tsne(x, steps=5), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (0, 3)])
def test_a_plane_needs_two_columns(shape):
    with pytest.raises(UsageError, match=r"pca_2d: expected \[n, D\] with n >= 1"):
        evaluate.pca_2d(np.zeros(shape))


def test_few_points_and_equal_rows_give_a_finite_map():
    x = np.repeat(normals(1, 3, 4), 4, axis=0)
    found = evaluate.tsne(x, steps=60)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == 12
    assert np.isfinite(evaluate.tsne(np.zeros((12, 4)), steps=60)).all()


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((2001, 4)), {}, r"got \(2001, 4\); draw fewer rows"),
        (np.zeros((3, 4)), {}, r"4 <= n <= 2000 and D >= 2, got \(3, 4\)"),
        (np.full((9, 4), np.inf), {}, "must be finite"),
        (np.zeros((9, 4)), {"perplexity": 0.5}, "perplexity must be >= 1, got 0.5"),
        (np.zeros((9, 4)), {"steps": 0}, "steps must be >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(x, options, message):
    with pytest.raises(UsageError, match=message):
        evaluate.tsne(x, **options)

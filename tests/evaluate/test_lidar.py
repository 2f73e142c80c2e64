"""LiDAR: planted eigenvalues, its formula, scikit-learn's LDA, and its limits."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from reference import label_free as reference
from scipy.special import entr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from rl_jax import evaluate
from rl_jax.errors import UsageError

IMAGES, VIEWS, DIM = 30, 4, 7


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def made(n=IMAGES, q=VIEWS, dim=DIM, seed=1, noise=0.3):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(n, 1, dim)) * np.linspace(0.2, 3, dim)
    return 5 + image + noise * rng.normal(size=(n, q, dim))


def count(values):
    """Exp of the entropy of what is not normalised."""
    p = np.asarray(values) / np.sum(values)
    return np.exp(entr(p).sum())


def planted(between, within, n=24):
    """Two views whose Σ_b and Σ_w have these eigenvalues, in the same directions."""
    dim = len(between)
    x = np.random.default_rng(2).normal(size=(n, 2 * dim))
    # The noise is as orthogonal to the means as the columns to each other.
    x = np.linalg.qr(x - x.mean(0))[0]
    means = x[:, :dim] * np.sqrt(np.asarray(between) * (n - 1))
    apart = x[:, dim:] * np.sqrt(np.asarray(within) * n / 2)
    return np.stack([means + apart, means - apart], axis=1) @ rotation(dim)


@pytest.mark.parametrize(
    ("between", "within"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1]),
        ([4, 3, 2, 1], [1, 1, 1, 1]),
        ([1, 1, 1, 1], [0.1, 0.2, 0.4, 2]),
        ([5, 1, 0, 2], [0.5, 3, 0, 0]),
    ],
)
@pytest.mark.parametrize("delta", [1e-4, 0.5])
def test_planted_eigenvalues(between, within, delta):
    """λ = b/(w + δ) in each direction: spread between over that within."""
    views = planted(between, within)
    target = count(np.asarray(between) / (np.asarray(within) + delta))
    assert evaluate.lidar(views, delta=delta) == pytest.approx(target, rel=1e-9)
    mean = np.sum(between + within) / 4
    target = count(np.asarray(between) / (np.asarray(within) + delta * mean))
    found = evaluate.lidar(views, delta=delta, relative=True)
    assert found == pytest.approx(target, rel=1e-9)


def test_by_hand():
    """Means 0 ± 3 and ± 1 on two axes; the views differ by ± 1 and ± 1 there."""
    means = np.array([[3, 1], [3, -1], [-3, 1], [-3, -1.0]])
    step = np.array([[1, 1], [1, -1], [-1, 1], [1, 1.0]])
    views = np.stack([means + step, means - step], axis=1)
    # Σ_b = diag(36, 4)/3; Σ_w = 2 [[4, 0], [0, 4]]/4 as the products are 1, -1, -1, 1.
    assert evaluate.lidar(views) == pytest.approx(count([0.9, 0.1]), rel=1e-9)
    step[2] = [1, 1]
    views = np.stack([means + step, means - step], axis=1)
    # Σ_w = [[2, 1], [1, 2]]: the λ are those of [[2, -1], [-1, 2]] diag(36, 4)/9.
    values = np.linalg.eigvals(np.array([[72, -4], [-36, 8]]))
    assert evaluate.lidar(views, delta=1e-12) == pytest.approx(count(values), rel=1e-9)


@pytest.mark.parametrize("shape", [(30, 4, 7), (30, 2, 7), (9, 2, 12), (5, 3, 40)])
@pytest.mark.parametrize("delta", [1e-4, 0.1])
def test_equals_the_formula(shape, delta):
    views = made(*shape)
    target = reference.lidar(views, delta)
    assert evaluate.lidar(views, delta=delta) == pytest.approx(target, rel=1e-6)
    narrow = evaluate.lidar(jnp.asarray(views, jnp.float32), delta=delta)
    assert narrow == pytest.approx(target, rel=1e-3)
    between, within = reference.lidar_matrices(views)
    mean = np.trace(between + within) / shape[2]
    found = evaluate.lidar(views, delta=delta, relative=True)
    assert found == pytest.approx(reference.lidar(views, delta * mean), rel=1e-6)


def test_many_images_are_added_up_in_parts():
    views = made(5000, 2, 5)
    assert evaluate.lidar(views) == pytest.approx(
        reference.lidar(views, 1e-4), rel=1e-9
    )


def test_agrees_with_the_lda_of_scikit_learn():
    """Whose normalised eigenvalues are the same, up to δ."""
    views = made()
    lda = LinearDiscriminantAnalysis(solver="eigen")
    lda.fit(views.reshape(-1, DIM), np.repeat(np.arange(IMAGES), VIEWS))
    target = count(lda.explained_variance_ratio_)
    assert evaluate.lidar(views, delta=1e-12) == pytest.approx(target, rel=1e-6)


def test_it_is_the_same_turned_moved_and_in_any_order():
    views = np.float32(made())
    target = evaluate.lidar(views)
    same = (views @ rotation(DIM), views - 20, views[::-1], views[:, ::-1])
    for other in (*same, views[..., ::-1], np.pad(views, ((0, 0), (0, 0), (0, 400)))):
        assert evaluate.lidar(np.float32(other)) == pytest.approx(target, rel=1e-4)
    # Which views are of one image is what it is about.
    mixed = views.copy()
    mixed[:, 0] = np.roll(views[:, 0], 1, axis=0)
    assert abs(evaluate.lidar(mixed) - target) > 0.2


def test_the_scale_counts_unless_delta_is_relative():
    views = made()
    absolute = evaluate.lidar(views)
    target = evaluate.lidar(views, relative=True)
    # Of small features δ is all there is within, which leaves the rank of the means.
    means = float(evaluate.effective_rank(views.mean(1)))
    assert evaluate.lidar(1e-6 * views) == pytest.approx(means, rel=1e-4)
    assert abs(absolute - means) > 0.05
    for scale in (1e-15, 1e-3, 1e3, 1e15):
        found = evaluate.lidar(scale * views, relative=True)
        assert found == pytest.approx(target, rel=1e-9)


def test_what_views_have_of_their_own_is_left_out():
    """A direction that augmentations shake counts for little, where RankMe has it."""
    rng = np.random.default_rng(3)
    image, own = rng.normal(size=(400, 1, 3)), rng.normal(size=(400, 50, 5))
    rows = np.concatenate([np.broadcast_to(image, (400, 50, 3)), own], axis=2)
    rows += 0.1 * rng.normal(size=rows.shape)
    assert evaluate.lidar(rows) == pytest.approx(3, abs=0.1)
    assert float(evaluate.rank_me(rows.reshape(-1, 8))) > 7.5


@pytest.mark.parametrize("q", [2, 8])
def test_views_of_nothing_have_the_rank_of_their_noise(q):
    """As the docstring warns: means of q views keep Σ_w/q."""
    views = np.random.default_rng(4).normal(size=(2000, q, 6))
    assert evaluate.lidar(views) == pytest.approx(6, abs=0.05)


def test_images_that_are_equal_have_rank_one():
    views = np.broadcast_to(made()[:1], (IMAGES, VIEWS, DIM))
    for relative in (False, True):
        assert evaluate.lidar(views, relative=relative) == 1.0
        still = np.float32(7.1) * np.ones((IMAGES, VIEWS, DIM), np.float32)
        assert evaluate.lidar(still, relative=relative) == 1.0
        last = still * (1 + 1e-7 * np.random.default_rng(5).normal(size=still.shape))
        assert evaluate.lidar(np.float32(last), relative=relative) == 1.0
    two = made(n=2)
    assert evaluate.lidar(two) == pytest.approx(1, abs=1e-9)


def test_views_that_are_equal_give_the_effective_rank_of_the_images():
    image = made(q=1)
    views = np.repeat(image, 3, axis=1)
    target = float(evaluate.effective_rank(image[:, 0]))
    for relative in (False, True):
        assert evaluate.lidar(views, relative=relative) == pytest.approx(
            target, rel=1e-5
        )


def test_wide_features_take_no_matrix_of_dimensions():
    views = made(4, 3, 4000)
    _, r = np.linalg.qr(views.reshape(12, 4000).T)
    target = reference.lidar(r.T.reshape(4, 3, 12), 1e-4)
    tracemalloc.start()
    assert evaluate.lidar(views) == pytest.approx(target, rel=1e-6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000**2


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_narrow_floats(dtype):
    views = np.asarray(made().astype(dtype))
    target = reference.lidar(views.astype(np.float64), 1e-4)
    assert evaluate.lidar(views) == pytest.approx(target, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"views": np.ones((9, 4))}, r"must be \[n, q, D\], q views of each image, "),
        ({"views": np.ones((9, 1, 4))}, r"q >= 2 views of each, got \(9, 1, 4\)"),
        ({"views": np.ones((1, 9, 4))}, r"n >= 2 images .*got \(1, 9, 4\)"),
        ({"views": np.ones((9, 2, 0))}, "D >= 1"),
        ({"views": [[[1.0]]]}, "must be an array .*, got list"),
        ({"views": np.full((9, 2, 4), np.inf)}, "views must be finite"),
        ({"delta": 0.0}, "delta must be > 0, got 0.0"),
        ({"delta": np.nan}, "delta must be > 0, got nan"),
        ({"delta": 1e-30}, "delta must not vanish .*got 1e-30"),
    ],
)
def test_what_has_no_rank_is_refused(change, words):
    views = made()
    views[..., 0] = views[..., 1]  # Σ_w is singular but for δ
    with pytest.raises(UsageError, match=f"^lidar: .*{words}") as caught:
        evaluate.lidar(**{"views": views} | change)
    assert "\n" not in str(caught.value)

"""CKA: against NumPy float64 with all matrices held, and what it must not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import comparison as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError

EXACT = 1e-6


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def rotation(dim, seed=9):
    return np.linalg.qr(normals(seed, dim, dim))[0]


def single(x):
    return np.asarray(x, np.float32)


def related(n=120, dim=20, out=30):
    """Unequal variances, a mean far from 0, a linear map and noise."""
    x = normals(0, n, dim) * np.linspace(0.1, 2, dim)
    y = x @ normals(1, dim, out) + 3 * normals(2, n, out)
    return single(x + 5), single(y - 20)


class Rows:
    """An array that can only be read by slices of rows, and counts who was read."""

    def __init__(self, x):
        self.x, self.ndim, self.shape = x, x.ndim, x.shape
        self.reads, self.most = np.zeros(len(x), int), 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, rows):
        self.reads[rows] += 1
        self.most = max(self.most, len(self.x[rows]))
        return self.x[rows]


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("block_size", [None, 50])
def test_linear_equals_the_reference(block_size, debiased):
    x, y = related()
    target = reference.cka(
        reference.linear_kernel(x), reference.linear_kernel(y), debiased=debiased
    )
    assert 0.3 < target < 0.9
    options = {"debiased": debiased, "block_size": block_size}
    # Sums in float32, whose order is the processor's.
    assert evaluate.linear_cka(x, y, **options) == pytest.approx(target, abs=5e-7)
    assert evaluate.linear_cka(y, x, **options) == pytest.approx(target, abs=5e-7)


@pytest.mark.parametrize("debiased", [False, True])
def test_linear_of_features_wider_than_many(debiased):
    x, y = single(normals(0, 20, 300)), single(normals(1, 20, 200))
    y[:, :50] += x[:, :50]
    target = reference.cka(
        reference.linear_kernel(x), reference.linear_kernel(y), debiased=debiased
    )
    found = evaluate.linear_cka(x, y, debiased=debiased)
    assert found == pytest.approx(target, abs=EXACT)


def test_by_hand():
    # Centred products: 5, sqrt(5 · 9): along one axis, the squared correlation.
    x, y = np.array([[-1.0], [0], [0], [1]]), np.array([[0.0], [1], [-1], [0]])
    assert evaluate.linear_cka(x, x + 2 * y) == pytest.approx(2 * 2 / (2 * 10))
    assert evaluate.linear_cka(x, y) == pytest.approx(0, abs=1e-12)


MEASURES = {
    "linear": evaluate.linear_cka,
    "debiased": lambda x, y: evaluate.linear_cka(x, y, debiased=True),
    "rbf": evaluate.rbf_cka,
    "rbf debiased": lambda x, y: evaluate.rbf_cka(x, y, debiased=True),
    "minibatch": lambda x, y: evaluate.minibatch_cka(x, y, batch_size=40),
}


@pytest.mark.parametrize("name", MEASURES)
def test_rotation_shift_and_scale_change_nothing(name):
    cka = MEASURES[name]
    x, y = related()
    exact = x.astype(np.float64)
    target = cka(x, y)
    for scale in (1.0, 1e-15, 1e15):
        same = single(scale * ((exact - 5) @ rotation(20) + 3))
        assert cka(x, same) == pytest.approx(1, abs=EXACT)
        assert cka(same, y) == pytest.approx(target, abs=EXACT)
    order = np.random.default_rng(3).permutation(len(x))
    if name != "minibatch":
        assert cka(x[order], y[order]) == pytest.approx(target, abs=EXACT)


@pytest.mark.parametrize("name", MEASURES)
def test_other_linear_maps_do(name):
    """A projection-weighted or regression score would be 1 here."""
    cka = MEASURES[name]
    x, _ = related()
    stretched = x * np.float32([10.0] * 2 + [0.1] * 18)
    assert cka(x, stretched) < 0.6


def test_wide_independent_features_are_alike_only_without_debiasing():
    x, y = single(normals(0, 50, 1000)), single(normals(1, 50, 1000))
    assert evaluate.linear_cka(x, y) > 0.9
    assert abs(evaluate.linear_cka(x, y, debiased=True)) < 0.05
    assert abs(evaluate.minibatch_cka(x, y, batch_size=25)) < 0.05
    wide = {"bandwidth": 2.0}
    assert evaluate.rbf_cka(x, y, **wide) > 0.9
    assert abs(evaluate.rbf_cka(x, y, **wide, debiased=True)) < 0.05


def test_debiased_is_unbiased():
    """The HSIC of small batches of independent features averages to nothing."""
    scores = []
    for seed in range(200):
        x, y = normals(seed, 12, 3), normals(1000 + seed, 12, 4)
        scores.append(evaluate.linear_cka(x, y, debiased=True))
    error = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores)) < 3 * error < 0.06


@pytest.mark.parametrize("debiased", [False, True])
def test_map_is_linear_cka_of_each_pair(debiased):
    a = [single(normals(i, 90, d)) + 3 for i, d in enumerate((1, 30, 200))]
    b = [a[1] @ single(normals(5, 30, 4)), np.concatenate([a[0], a[2]], axis=1)]
    options = {"debiased": debiased, "block_size": 32}
    found = evaluate.cka_map(a, b, **options)
    assert found.shape == (3, 2)
    assert found.dtype == np.float64
    target = [
        [
            reference.cka(
                reference.linear_kernel(x),
                reference.linear_kernel(y),
                debiased=debiased,
            )
            for y in b
        ]
        for x in a
    ]
    np.testing.assert_allclose(found, target, rtol=0, atol=EXACT)
    own = evaluate.cka_map(a, **options)
    assert own.diagonal() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(own, evaluate.cka_map(a, a, **options), atol=EXACT)
    np.testing.assert_allclose(own, own.T, atol=1e-9)


def test_one_pass_reads_each_row_once():
    a = [Rows(single(normals(i, 100, 5))) for i in range(2)]
    b = [Rows(single(normals(9, 100, 3)))]
    evaluate.cka_map(a, b, debiased=True, block_size=32)
    for layer in a + b:
        assert (layer.reads == 1).all()
        assert layer.most == 32
    own = [Rows(v.x) for v in a]
    evaluate.cka_map(own, block_size=32)
    assert all((v.reads == 1).all() for v in own)


def test_sorted_rows_with_a_far_mean_lose_nothing():
    """The first block's mean, around which the sums are taken, is far from the mean."""
    group = np.sort(np.arange(200) % 4)
    x = normals(0, 200, 6) + 50.0 * normals(1, 4, 6)[group]
    y = normals(2, 200, 5) + 50.0 * normals(3, 4, 5)[group] + 1000
    x, y = single(x), single(y)
    for debiased in (False, True):
        target = reference.cka(
            reference.linear_kernel(x), reference.linear_kernel(y), debiased=debiased
        )
        found = evaluate.linear_cka(x, y, debiased=debiased, block_size=16)
        assert found == pytest.approx(target, abs=EXACT)


def test_minibatch_equals_the_reference():
    x, y = related()
    for size in (4, 32, 120):
        found = evaluate.minibatch_cka(x, y, batch_size=size)
        target = reference.minibatch_cka(x, y, size)
        assert found == pytest.approx(target, abs=EXACT)
    whole = evaluate.linear_cka(x, y, debiased=True)
    assert evaluate.minibatch_cka(x, y, batch_size=120) == pytest.approx(whole)


def test_minibatches_hardly_move_the_value():
    """Averages of the ratio itself, or of the biased HSIC, would be far off."""
    x, y = single(normals(0, 3000, 64)), single(normals(1, 3000, 64))
    y[:, :32] += x[:, :32]
    whole = evaluate.linear_cka(x, y, debiased=True)
    small = evaluate.minibatch_cka(x, y, batch_size=30)
    assert small == pytest.approx(whole, abs=0.02)
    assert evaluate.linear_cka(x[:30], y[:30]) > whole + 0.3


def test_minibatch_reads_one_batch_at_a_time():
    x, y = Rows(single(normals(0, 50, 4))), Rows(single(normals(1, 50, 3)))
    evaluate.minibatch_cka(x, y, batch_size=8)
    for side in (x, y):
        assert side.most == 8
        assert side.reads.tolist() == [1] * 48 + [0] * 2


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_other_dtypes_are_taken_as_they_are(dtype):
    x, y = (v.astype(dtype) for v in related())
    wide = np.asarray(x, np.float32), np.asarray(y, np.float32)
    for name, cka in MEASURES.items():
        assert cka(x, y) == pytest.approx(cka(*wide), abs=1e-12), name


def test_nothing_is_left_of_the_precision():
    evaluate.linear_cka(*related())
    assert jnp.asarray(1.0).dtype == np.float32
    assert not jax.config.jax_enable_x64


def changed(**change):
    x, y = related()
    return {"x": x, "y": y} | change


NAN = np.where(np.eye(120, 20) > 0, np.nan, 1.0) + related()[0]


@pytest.mark.parametrize("name", ["linear_cka", "rbf_cka", "minibatch_cka"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.ones((7, 3))}, "same rows, got 120 and, in y, 7"),
        ({"y": np.ones(120)}, r"y must be \[n, D\] .* got \(120,\)"),
        ({"x": np.ones((120, 0))}, r"x must be .* got \(120, 0\)"),
        ({"x": np.eye(3), "y": np.eye(3)}, r"n >= 4 .* got \(3, 3\)"),
        ({"x": NAN}, "x must be finite, got NaN or inf"),
        ({"y": np.full((120, 2), np.inf)}, "y must be finite"),
        ({"y": np.full((120, 2), 0.1)}, "collapsed"),
    ],
)
def test_wrong_arrays_are_named(name, change, message):
    given = changed(**change)
    more = {"batch_size": 30} if name == "minibatch_cka" else {}
    with pytest.raises(UsageError, match=f"{name}: .*{message}"):
        getattr(evaluate, name)(given["x"], given["y"], **more)


def test_wrong_options_are_named():
    x, y = related()
    with pytest.raises(UsageError, match="at least one layer on each side"):
        evaluate.cka_map([])
    with pytest.raises(UsageError, match="at least one layer on each side"):
        evaluate.cka_map([x], [])
    with pytest.raises(UsageError, match=r"layers_b\[1\] is constant"):
        evaluate.cka_map([x], [y, np.ones((120, 3))])
    with pytest.raises(UsageError, match=r"layers_a\[0\] must be finite"):
        evaluate.cka_map([NAN], [y])
    with pytest.raises(UsageError, match="block_size must be >= 1, got 0"):
        evaluate.linear_cka(x, y, block_size=0)
    for size in (3, 121):
        with pytest.raises(UsageError, match=rf"in \[4, 120\], got {size}"):
            evaluate.minibatch_cka(x, y, batch_size=size)
    with pytest.raises(UsageError, match="all rows of x are equally far apart"):
        evaluate.linear_cka(np.eye(8), y[:8], debiased=True)

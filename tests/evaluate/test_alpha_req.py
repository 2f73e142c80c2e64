"""α-ReQ: exact on power laws, equal to its formula, deaf to rounding."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from reference import label_free as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError

N, DIM = 150, 40


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def spectrum(values, n=N, dim=None, seed=1):
    """Rows whose scatter has just these eigenvalues, in directions of no axis."""
    x = np.random.default_rng(seed).normal(size=(n, len(values)))
    x = np.linalg.qr(x - x.mean(0))[0]
    return x * np.sqrt(values) @ rotation(dim or len(values))[: len(values)]


def law(alpha, dim=DIM):
    return np.arange(1.0, dim + 1) ** -alpha


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 2, 4])
@pytest.mark.parametrize("ranks", [(6, 100), (1, 40), (3, 4), (1, 2)])
def test_the_exponent_of_a_power_law_is_exact(alpha, ranks):
    x = spectrum(law(alpha))
    assert evaluate.alpha_req(x, ranks=ranks) == pytest.approx(alpha, abs=1e-9)
    few = np.float32(x + 0.01)
    assert evaluate.alpha_req(few, ranks=ranks) == pytest.approx(alpha, abs=1e-3)


def test_by_hand():
    """As sums over pairs of ranks: weights 1/2, 1/3 and 1/6, and log 2 the unit."""
    # log λ = 2, 2, 0 at log j = 0, 1, t.
    t = np.log2(3)
    target = (2 * t / 3 + (2 * t - 2) / 6) / (1 / 2 + t**2 / 3 + (t - 1) ** 2 / 6)
    found = evaluate.alpha_req(spectrum([4, 4, 1]), ranks=(1, 3))
    assert found == pytest.approx(target, rel=1e-9)


@pytest.mark.parametrize("shape", [(150, 40), (60, 40), (40, 90), (5000, 12)])
@pytest.mark.parametrize("ranks", [(6, 30), (2, 11)])
def test_equals_the_formula(shape, ranks):
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape) * rng.uniform(0.1, 2, shape[1]) + 3
    target = reference.alpha_req(x, ranks[0], min(ranks[1], shape[1]))
    assert evaluate.alpha_req(x, ranks=ranks) == pytest.approx(target, rel=1e-8)
    narrow = evaluate.alpha_req(jnp.asarray(x, jnp.float32), ranks=ranks)
    assert narrow == pytest.approx(target, rel=1e-4)


def test_the_weights_are_those_of_the_authors():
    x = spectrum(np.random.default_rng(3).uniform(0.1, 5, DIM))
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    j = np.arange(6, DIM + 1)
    # np.polyfit weighs what it squares.
    slope, _ = np.polyfit(np.log(j), np.log(values[j - 1]), 1, w=j**-0.5)
    assert evaluate.alpha_req(x) == pytest.approx(-slope, rel=1e-9)


def test_it_is_the_same_scaled_turned_moved_and_in_any_order():
    x = np.float32(np.random.default_rng(4).normal(size=(N, DIM)) * law(0.7))
    target = evaluate.alpha_req(x)
    for same in (1e-30 * x, 1e30 * x, x + 5, x @ rotation(DIM), x[::-1], x[:, ::-1]):
        assert evaluate.alpha_req(np.float32(same)) == pytest.approx(target, rel=1e-4)
    for tiny in (1e-40 * x.astype(float), np.pad(x, ((0, 0), (0, 300)))):
        assert evaluate.alpha_req(tiny) == pytest.approx(target, rel=1e-4)
    # Where the data differ so does it: one direction more spread is no scale.
    assert abs(evaluate.alpha_req(x * np.linspace(1, 3, DIM)) - target) > 0.1


def test_rounding_is_no_direction():
    """Twelve directions in forty, written in float32 or less: ranks 13 on are noise."""
    x = spectrum(law(1, 12), dim=DIM) + 0.3
    for dtype, within in ((np.float32, 1e-4), (np.float16, 0.02), (jnp.bfloat16, 0.2)):
        rounded = x.astype(dtype)
        assert evaluate.alpha_req(rounded) == pytest.approx(1, abs=within)
    # All of the spectrum's noise as it is makes another number.
    noisy = np.float64(np.float16(x))
    assert reference.alpha_req(noisy, 6, DIM) > 3


def test_a_layer_of_few_directions_ends_where_they_do():
    """What a network computes in float32 is not exact to the last digit."""
    rng = np.random.default_rng(5)
    x, a, b = (np.float32(rng.normal(size=s)) for s in ((500, 64), (64, 5), (5, 200)))
    out = jnp.maximum(jnp.asarray(x), 0) @ a @ b + 2
    with pytest.raises(UsageError, match="eigenvalues 1 to 5, which is what 500 rows"):
        evaluate.alpha_req(out)
    assert evaluate.alpha_req(out, ranks=(1, 100)) < 3


def test_few_rows_have_few_eigenvalues():
    x = np.float32(np.random.default_rng(6).normal(size=(10, DIM)))
    expected = reference.alpha_req(x, 6, 9)
    assert evaluate.alpha_req(x) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UsageError, match="eigenvalues 1 to 6, which is what 7 rows"):
        evaluate.alpha_req(x[:7])


def test_wide_features_take_no_matrix_of_dimensions():
    x = np.random.default_rng(8).normal(size=(12, 4000))
    expected = np.linalg.svd(x - x.mean(0), compute_uv=False)[[5, 6]]
    tracemalloc.start()
    found = evaluate.alpha_req(x, ranks=(6, 7))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == pytest.approx(-2 * np.diff(np.log(expected))[0] / np.log(7 / 6))
    assert peak < 4000**2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranks": (0, 9)}, "first must be >= 1, got 0"),
        ({"ranks": (6, 6)}, "ranks must rise, got 6 to 6"),
        ({"ranks": (1.5, 9)}, "first must be an integer, got 1.5"),
        ({"ranks": (1, 2, 3)}, r"ranks must be \(first, last\), got \(1, 2, 3\)"),
        ({"ranks": 9}, r"ranks must be \(first, last\), got 9"),
        ({"features": np.ones((9, 20))}, r"got 0 direction\(s\) .*collapsed"),
        ({"features": np.outer(np.arange(9.0), [1, 2])}, r"got 1 direction"),
        ({"features": np.ones((2, 20))}, "n >= 3"),
        ({"features": np.ones(20)}, r"must be \[n, D\]"),
        ({"features": np.full((9, 9), np.nan)}, "must be finite"),
    ],
)
def test_what_has_no_decay_is_refused(change, words):
    x = np.random.default_rng(7).normal(size=(30, 20))
    with pytest.raises(UsageError, match=f"^alpha_req: .*{words}") as caught:
        evaluate.alpha_req(**{"features": x} | change)
    assert "\n" not in str(caught.value)

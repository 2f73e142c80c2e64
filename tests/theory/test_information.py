"""Information of Gaussian pairs, the best critic, and what InfoNCE makes of them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, loop
from reference import theory as reference
from scipy import stats

from rl_jax import losses, methods, networks, theory
from rl_jax.theory import information
from rl_jax.types import Aux, Method

FIVE = np.full(5, 0.99)


def test_information_equals_the_determinants():
    rho = np.array([0.9, -0.5, 0.2])
    with jax.enable_x64(True):
        found = theory.pair_information(rho)
        eye = np.eye(3)
        expected = theory.gaussian_information(eye, eye, np.diag(rho))
        assert_close(found, expected, tolerance=1e-12)
    values = [float(theory.pair_information(r)) for r in (0.5, 0.9, 0.99, FIVE)]
    np.testing.assert_allclose(values, [0.1438, 0.8304, 1.9585, 9.7926], atol=5e-5)


@pytest.mark.parametrize("rho", [0.9, -0.6, 0.0])
def test_critic_equals_scipy(rho):
    """Log of the joint density over the product of both, one pair and three."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 3))
    joint = stats.multivariate_normal(cov=[[1, rho], [rho, 1]])
    each = joint.logpdf(np.stack([x, y], -1))
    each -= stats.norm.logpdf(x) + stats.norm.logpdf(y)
    with jax.enable_x64(True):
        one = theory.log_density_ratio(x[:, :1], y[:, :1], rho=rho)
        three = theory.log_density_ratio(x, y, rho=rho)
    np.testing.assert_allclose(one, each[:, 0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(three, each.sum(1), rtol=1e-10, atol=1e-12)


def test_mean_of_the_critic_is_the_information():
    """Exactly: f is quadratic; and the mean of its exponential over strangers is 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    mass = np.outer(weights, weights) / weights.sum() ** 2
    x, noise = (a[..., None] for a in np.meshgrid(nodes, nodes, indexing="ij"))
    with jax.enable_x64(True):
        for rho in (0.3, 0.9, -0.99):
            y = rho * x + (1 - rho**2) ** 0.5 * noise
            mean = np.sum(mass * theory.log_density_ratio(x, y, rho=rho))
            np.testing.assert_allclose(mean, theory.pair_information(rho), rtol=1e-10)
        strangers = theory.log_density_ratio(x, noise, rho=0.5)
        np.testing.assert_allclose(np.sum(mass * np.exp(strangers)), 1, rtol=1e-6)


@pytest.mark.parametrize("tile", [1, 40, 10**6])
def test_log_mean_equals_loops(tile, monkeypatch):
    """One row, some, and all rows at a time."""
    monkeypatch.setattr(information, "TILE", tile)
    rng, rho = np.random.default_rng(1), np.array([0.99, -0.7])
    x, y = rng.normal(size=(7, 2)), rng.normal(size=(13, 2))
    y[:7] = rho * x + np.sqrt(1 - rho**2) * y[:7]
    f = np.array([[reference.log_density_ratio(a, b, rho) for b in y] for a in x])
    expected = np.log(np.mean(np.exp(f), axis=1))
    found = theory.log_mean_ratio(jnp.float32(x), jnp.float32(y), rho=rho)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    with jax.enable_x64(True):
        exact = theory.log_mean_ratio(x, y, rho=rho)
        np.testing.assert_allclose(exact, expected, rtol=1e-10)


def test_the_matrix_is_never_held():
    """256 × 65,536 values are 67 MB; what is held does not grow with the queries."""
    f = jax.jit(functools.partial(theory.log_mean_ratio, rho=0.9))

    def temporary(queries):
        x, y = (jax.ShapeDtypeStruct((n, 1), jnp.float32) for n in (queries, 65_536))
        return f.lower(x, y).compile().memory_analysis().temp_size_in_bytes

    few, many = temporary(16), temporary(256)
    print(f"temporary {few / 2**20:.1f} MiB, {many / 2**20:.1f} MiB")
    assert many < 6 * 2**20
    assert many < 1.1 * few


def bound(rho, candidates, repeats, seed=0, **options):
    estimate = theory.info_nce_bound(
        jax.random.key(seed),
        rho=rho,
        num_candidates=candidates,
        repeats=repeats,
        **options,
    )
    return jax.tree.map(float, estimate)


def check_bounded(b, rho, candidates):
    """At most I(X;Y) and log K, each within three standard errors."""
    most = min(float(theory.pair_information(rho)), math.log(candidates))
    assert b.exact <= most + 3 * b.exact_error
    rounding = 1e-5
    assert b.plain <= most + 3 * b.plain_error + rounding
    assert b.plain <= math.log(candidates) + rounding
    gap = abs(b.exact - b.plain)
    assert gap < 4 * math.hypot(b.exact_error, b.plain_error)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_bound_equals_quadrature(rho):
    b = bound(rho, 2, 20_000)
    expected = reference.gaussian_pair_nce(rho)
    print(f"{b.plain:.5f} ± {b.plain_error:.5f}, quadrature {expected:.5f}")
    assert abs(b.plain - expected) < 4 * b.plain_error
    assert abs(b.exact - expected) < 4 * b.exact_error
    assert b.plain_error < 0.003


@pytest.mark.parametrize(
    ("rho", "values"),
    [(0.5, (0.134, 0.1437)), (0.9, (0.749, 0.8292)), (0.99, (1.652, 1.952))],
)
def test_bound_rises_to_the_information(rho, values):
    full = float(theory.pair_information(rho))
    found = []
    for candidates, repeats, value in zip((16, 1024), (4000, 64), values, strict=True):
        b = bound(rho, candidates, repeats)
        print(f"rho {rho}, K = {candidates}: {b.exact:.4f} ± {b.exact_error:.4f}")
        check_bounded(b, rho, candidates)
        assert abs(b.exact - value) < 4 * b.exact_error + 1e-3
        found.append(b.exact)
    assert b.exact_error < b.plain_error / 5
    assert found[0] < 0.96 * full
    assert 0.99 * full < found[1]


def test_log_k_is_a_ceiling():
    """Five pairs hold 9.79 nats, of which K candidates show log K at most."""
    values = {2: 0.6930, 16: 2.7712, 128: 4.8355, 1024: 6.81}
    for candidates, value in values.items():
        b = bound(FIVE, candidates, 1000 if candidates < 1024 else 24)
        print(f"K = {candidates}: {b.plain:.4f} ± {b.plain_error:.4f}")
        check_bounded(b, FIVE, candidates)
        assert abs(b.plain - value) < 4 * b.plain_error + 2e-3
        assert b.plain > math.log(candidates) - 0.15


def test_one_estimate_may_lie_above_the_information():
    """Only its expectation is bounded."""
    full = float(theory.pair_information(0.9))
    runs = [bound(0.9, 1024, 2, seed=seed).plain for seed in range(40)]
    above = np.mean(np.array(runs) > full)
    print(f"above I(X;Y): {above:.0%} of the estimates, largest {max(runs):.3f}")
    assert 0.2 < above < 0.8
    assert np.mean(runs) < full + 3 * np.std(runs) / len(runs) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.9, 0.99, FIVE], ids=["5", "9", "99", "five"])
def test_many_candidates_show_all_of_it(rho):
    """One pair is shown in full by 65,536 candidates; of 9.79 nats, 9.3."""
    b, full = bound(rho, 65_536, 12, seed=1), float(theory.pair_information(rho))
    print(f"{b.exact:.4f} ± {b.exact_error:.4f} of {full:.4f}")
    print(f"plain {b.plain:.3f} ± {b.plain_error:.3f}")
    check_bounded(b, rho, 65_536)
    if np.size(rho) == 1:
        assert abs(b.exact - full) < 4 * b.exact_error + 1e-3
        assert b.exact_error < 2e-3
    else:
        assert abs(b.exact - 9.3) < 0.1


# Critics that are learned.

SIZE = 128
TOWER = networks.mlp(features=(64, 64), out=16, batch_norm=False)


def pairs(rng, rho, shift=0):
    """Scalars of correlation ρ; shifted, each with the other half of another pair."""
    rng_x, rng_y = jax.random.split(rng)
    x = jax.random.normal(rng_x, (SIZE, 1))
    y = rho * x + (1 - rho**2) ** 0.5 * jax.random.normal(rng_y, (SIZE, 1))
    return {"index": jnp.arange(SIZE), "image": x, "pair": jnp.roll(y, shift, axis=0)}


def two_towers():
    """The library's InfoNCE of g(x) and h(y), one way."""

    def init(rng, batch):
        rngs = jax.random.split(rng)
        return [TOWER.init(r, batch["image"])[0] for r in rngs], {}

    def loss(params, state, batch, rng):
        sides = zip(params, (batch["image"], batch["pair"]), strict=True)
        u, v = (TOWER.apply(p, {}, x, train=True)[0] for p, x in sides)
        value = losses.info_nce(u, v, temperature=0.1)
        return value, Aux(state, {"information": math.log(SIZE) - value}, {})

    return Method(init, loss, lambda params, state, batch: {})


def one_tower():
    """The library's method: one network for x and y, both ways."""
    head = networks.projection_head(layers=1, out=16, batch_norm=False)
    return methods.info_nce(TOWER, head, positives="paired", temperature=0.1)


def learned(method, rho, *, shift=0, steps=1000):
    """What the critic shows of new pairs, and what the best one does of the same."""

    @jax.jit
    def run(rng):
        rng_init, rng_steps, rng_test = jax.random.split(rng, 3)
        params, state, _ = loop.scan(
            method,
            method.init(rng_init, pairs(rng_init, rho)),
            lambda r: (pairs(r, rho, shift), r),
            jax.random.split(rng_steps, steps),
            optimizer=loop.cosine_adam(3e-3, steps),
        )

        def both(rng):
            batch = pairs(rng, rho)
            _, aux = method.loss(params, state, batch, rng)
            x, y = batch["image"], batch["pair"]
            best = theory.log_density_ratio(x, y, rho=rho).mean()
            best -= theory.log_mean_ratio(x, y, rho=rho).mean()
            return jnp.stack([aux.metrics["information"], best])

        return jax.lax.map(both, jax.random.split(rng_test, 400))

    return np.asarray(run(jax.random.key(0)), np.float64)


@pytest.mark.parametrize(
    ("make", "rho", "most"),
    [
        (two_towers, 0.9, 0.01),
        pytest.param(two_towers, 0.5, 0.01, marks=pytest.mark.slow),
        pytest.param(two_towers, 0.99, 0.08, marks=pytest.mark.slow),
        # Unit embeddings of one network give (x, x) the same score for every x: that
        # costs 0.017, however long it is trained.
        (one_tower, 0.9, 0.03),
    ],
)
def test_learned_critic_comes_near_the_best(make, rho, most):
    own, best = learned(make(), rho).T
    gap, error = (best - own).mean(), (best - own).std() / len(own) ** 0.5
    full = float(theory.pair_information(rho))
    print(f"rho {rho}: {own.mean():.4f} ± {own.std() / 20:.4f} of {full:.4f}")
    print(f"best critic {best.mean():.4f}, more by {gap:.4f} ± {error:.4f}")
    assert -3 * error < gap < most
    assert own.mean() < full + 3 * own.std() / len(own) ** 0.5


def test_pairs_of_strangers_teach_nothing():
    """The control: with the second half of each pair rolled on by one."""
    own, best = learned(two_towers(), 0.9, shift=1, steps=300).T
    print(f"trained on strangers {own.mean():.4f}, best critic {best.mean():.4f}")
    assert abs(own.mean()) < 0.03
    assert (best - own).mean() > 0.7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.pair_information(1.0), r"rho must be inside \(-1, 1\)"),
        (lambda: theory.pair_information(np.zeros((2, 2))), r"number or \[P\]"),
        (
            lambda: theory.log_density_ratio(np.ones(3), np.ones(2), rho=0.5),
            r"expected x, y \[..., P\]",
        ),
        (
            lambda: theory.log_mean_ratio(np.ones(3), np.ones((2, 3)), rho=0.5),
            r"expected x \[N, P\]",
        ),
        (
            lambda: theory.log_mean_ratio(np.ones((2, 3)), np.ones((2, 3)), rho=FIVE),
            r"rho a number or \[P\]",
        ),
        (lambda: bound(0.5, 1, 2), "num_candidates must be at least 2, got 1"),
        (lambda: bound(0.5, 2, 1), "repeats must be at least 2, got 1"),
        (lambda: bound(0.5, 2, 2, num_queries=0), "num_queries must be at least 1"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)

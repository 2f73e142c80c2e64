"""Limits of alignment and uniformity against SciPy, quadrature and the losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import theory as reference
from scipy import special

from rl_jax import losses, theory
from rl_jax.errors import UsageError

KAPPAS = np.array([0.02, 0.1, 1.0, 2.0, 10.0, 20.0, 50.0, 100.0, 200.0])


def bessel(kappa, dim):
    nu = dim / 2 - 1
    scaled = np.log(special.ive(nu, kappa)) + kappa
    return special.gammaln(dim / 2) + nu * np.log(2 / kappa) + scaled


def uniform(dim, count, seed=0):
    rng = np.random.default_rng(seed)
    return reference.sphere(rng, count, dim).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 64, 128])
def test_equals_scipy(dim):
    expected = bessel(KAPPAS, dim)
    with jax.enable_x64(True):
        exact = theory.log_mean_exp_cosine(KAPPAS, dim=dim)
        assert_close(exact, expected, tolerance=1e-12)
        # The logarithms of the expected value cancel where kappa is small.
        np.testing.assert_allclose(exact, expected, rtol=1e-10, atol=1e-13)
    single = np.asarray(theory.log_mean_exp_cosine(KAPPAS, dim=dim))
    assert single.dtype == np.float32
    assert np.max(np.abs(single - expected)) < 1e-4


@pytest.mark.parametrize("dim", [2, 3, 5, 64, 512])
def test_equals_quadrature(dim):
    for kappa in (0.1, 3.0, 40.0):
        with jax.enable_x64(True):
            value = theory.log_mean_exp_cosine(kappa, dim=dim)
        # At a small kappa the quotient of two integrals is all but one.
        expected = reference.log_mean_exp_cosine(kappa, dim)
        assert_close(value, expected, tolerance=1e-9, floor=1e-2)


def test_closed_forms():
    with jax.enable_x64(True):
        k = KAPPAS
        circle = np.log(np.i0(k))
        assert_close(theory.log_mean_exp_cosine(k, dim=2), circle, tolerance=1e-12)
        two_points = np.logaddexp(k, -k) - np.log(2)
        assert_close(theory.log_mean_exp_cosine(k, dim=1), two_points, tolerance=1e-12)
        ball = np.log(np.sinh(k) / k)
        assert_close(theory.log_mean_exp_cosine(k, dim=3), ball, tolerance=1e-12)
        assert_close(theory.log_mean_exp_cosine(-k, dim=3), ball, tolerance=1e-12)
        assert theory.log_mean_exp_cosine(0.0, dim=3) == 0
        # Large kappa: log of Gamma(d/2) 2^(d/2-1) kappa^(1/2-d/2) e^kappa / sqrt(2 pi).
        far = special.gammaln(4) + 3 * np.log(2) - 3.5 * np.log(1e5) + 1e5
        far -= 0.5 * np.log(2 * np.pi)
        value = theory.log_mean_exp_cosine(1e5, dim=8)
        assert abs(float(value) - far) < 1e-3


def test_slope_is_the_mean_cosine():
    with jax.enable_x64(True):
        slope = jax.grad(lambda k: theory.log_mean_exp_cosine(k, dim=3))
        for kappa in (0.5, 2.0, 30.0):
            mean = 1 / np.tanh(kappa) - 1 / kappa
            assert_close(slope(kappa), mean, tolerance=1e-12)
            variance = 1 / kappa**2 - np.sinh(kappa) ** -2
            assert_close(jax.grad(slope)(kappa), variance, tolerance=1e-10)
        assert slope(0.0) == 0
        assert_close(jax.grad(slope)(0.0), 1 / 3, tolerance=1e-12)
        assert_close(slope(-2.0), -slope(2.0), tolerance=1e-12)


def test_jit_equals_no_jit():
    plain = theory.log_mean_exp_cosine(KAPPAS, dim=5)
    jitted = jax.jit(lambda k: theory.log_mean_exp_cosine(k, dim=5))(KAPPAS)
    assert_close(jitted, plain, tolerance=1e-6)
    mapped = jax.vmap(lambda k: theory.log_mean_exp_cosine(k, dim=5))(KAPPAS)
    assert_close(mapped, plain, tolerance=1e-6)


@pytest.mark.parametrize(
    ("dim", "t"), [(2, 2.0), (3, 2.0), (8, 2.0), (64, 2.0), (8, 5)]
)
def test_uniformity_loss_tends_to_its_limit(dim, t):
    loss = jax.jit(lambda z: losses.uniformity(z, t=t))
    z = uniform(dim, 4096)
    limit = float(theory.uniformity_limit(dim=dim, t=t))
    assert abs(float(loss(z)) - limit) < 0.005
    # Any other distribution lies above: a cap, or one coordinate squeezed.
    assert float(loss(z + 0.5 * z[0])) > limit + 0.02
    squeezed = np.concatenate([0.5 * z[:, :1], z[:, 1:]], axis=1)
    assert float(loss(squeezed)) > limit + (0.02 if dim < 10 else -1e-4)


@pytest.mark.parametrize(
    ("dim", "temperature"),
    [(2, 0.1), (3, 0.5), (8, 0.1), (64, 0.5), (64, 0.1), (128, 0.2)],
)
def test_info_nce_tends_to_its_limit(dim, temperature):
    count = 8192
    z = uniform(dim, count)
    loss = jax.jit(lambda a, b: losses.info_nce(a, b, temperature=temperature))
    measured = float(loss(z, z)) - np.log(count)
    with_term = theory.info_nce_limit(
        temperature=temperature, dim=dim, num_candidates=count
    )
    assert abs(measured - float(with_term)) < 0.005
    limit = float(theory.info_nce_limit(temperature=temperature, dim=dim))
    expected = bessel(1 / temperature, dim) - 1 / temperature
    assert_close(limit, expected, tolerance=1e-5)
    # The limit itself is far off where few candidates are near the positive.
    if (dim, temperature) == (64, 0.1):
        assert measured - limit > 0.5


def test_info_nce_of_imperfect_positives():
    dim, temperature, count = 16, 0.2, 8192
    rng = np.random.default_rng(1)
    a = uniform(dim, count)
    b = a + 0.2 * rng.normal(size=a.shape).astype(np.float32)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    loss = jax.jit(lambda x, y: losses.info_nce(x, y, temperature=temperature))
    cosine = np.sum(a * b, axis=1)
    expected = theory.info_nce_limit(
        temperature=temperature, dim=dim, num_candidates=count, cosine=cosine
    )
    assert abs(float(loss(a, b)) - np.log(count) - float(expected)) < 0.005
    # Alignment and uniformity: -E cos / tau = (E|a - b|^2 - 2) / 2 tau.
    limit = theory.info_nce_limit(temperature=temperature, dim=dim, cosine=cosine)
    alignment = float(losses.alignment(a, b))
    uniformity = theory.uniformity_limit(dim=dim, t=0.5 / temperature)
    parts = (alignment - 2) / (2 * temperature) + float(uniformity) + 1 / temperature
    assert_close(limit, parts, tolerance=1e-5)


def test_the_term_of_finitely_many():
    with jax.enable_x64(True):
        limit, large, infinite = (
            float(theory.info_nce_limit(temperature=0.1, dim=64, num_candidates=k))
            for k in (None, 65_536, 10**15)
        )
    assert abs(large - limit - 0.14) < 0.01
    assert abs(infinite - limit) < 1e-6
    two = theory.info_nce_limit(temperature=1e6, dim=4, num_candidates=2)
    assert abs(float(two)) < 1e-5


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: theory.log_mean_exp_cosine(1.0, dim=0), "dim"),
        (lambda: theory.uniformity_limit(dim=0), "dim"),
        (lambda: theory.uniformity_limit(dim=2, t=0.0), "t must"),
        (lambda: theory.uniformity_limit(dim=2, t=101.0), "its digits in float32"),
        (lambda: theory.info_nce_limit(temperature=0.0, dim=2), "temperature"),
        (
            lambda: theory.info_nce_limit(temperature=1.0, dim=2, num_candidates=1),
            "num_candidates",
        ),
    ],
)
def test_refused(call, word):
    with pytest.raises(ValueError, match=word) as error:
        call()
    assert "\n" not in str(error.value)


def test_uniformity_limit_far_out():
    """On the sphere in three dimensions it is log[(1 − e^{−4t})/4t]."""
    t = np.array([1.0, 30.0, 100.0])
    exact = np.log(-np.expm1(-4 * t) / (4 * t))
    np.testing.assert_allclose(theory.uniformity_limit(dim=3, t=t), exact, atol=2e-4)
    with jax.enable_x64():
        t = np.array([1e3, 1e4])
        found = theory.uniformity_limit(dim=3, t=t)
        np.testing.assert_allclose(found, -np.log(4 * t), rtol=1e-8)


def test_nothing_is_promoted():
    values = theory.log_mean_exp_cosine(jnp.ones((2, 3)), dim=4)
    assert values.shape == (2, 3)
    assert values.dtype == jnp.float32


def test_known_numbers_within_what_is_traced():
    """Checks look at them without tracing, whole arrays too."""
    t, penalty, joint = jnp.float32(2.0), jnp.float32(0.1), jnp.ones((2, 3))
    x, noise = jnp.ones((2, 3)), jnp.array([[0.1], [0.2]])

    @jax.jit
    def run(one):
        return (
            one * theory.uniformity_limit(dim=3, t=t),
            one * theory.mutual_information(joint),
            theory.fista(x, one * jnp.eye(3), penalty=penalty, steps=3),
            theory.denoiser_score(x, one * x, noise=noise),
        )

    for found, expected in zip(
        run(1.0),
        (
            theory.uniformity_limit(dim=3),
            0.0,
            theory.fista(x, jnp.eye(3), penalty=0.1, steps=3),
            jnp.zeros((2, 3)),
        ),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="noise must be > 0"):
        theory.denoiser_score(x, x, noise=noise - 0.1)

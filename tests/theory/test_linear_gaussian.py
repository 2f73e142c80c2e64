"""The identity of the evidence bound, and the library's VAE against it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import loop
from reference import variational as reference

from rl_jax import methods, networks
from rl_jax.theory import linear_gaussian

D, K, VARIANCE = 5, 3, 0.3


def model(seed, batch=7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, D))
    weight, bias = rng.normal(size=(D, K)), rng.normal(size=D)
    q = rng.normal(size=(2, batch, K))
    return x, weight, bias, q


@pytest.mark.parametrize("seed", range(3))
def test_bound_and_gap_are_the_evidence(seed):
    """Exactly, for any q: 1e-12 of a few nats."""
    x, weight, bias, q = model(seed)
    evidence = linear_gaussian.log_evidence(x, weight, bias, variance=VARIANCE)
    post = linear_gaussian.posterior(x, weight, bias, variance=VARIANCE)
    bound = linear_gaussian.bound(x, weight, bias, *q, variance=VARIANCE)
    gap = linear_gaussian.gap(*q, *post)
    np.testing.assert_allclose(bound + gap, evidence, rtol=1e-12)
    assert np.all(gap > 0)


def test_evidence_equals_reference():
    x, weight, bias, _ = model(0)
    expected = reference.linear_gaussian_log_evidence(x, weight, bias, VARIANCE)
    found = linear_gaussian.log_evidence(x, weight, bias, variance=VARIANCE)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_dimension_by_hand():
    """W = 2, v = 1: p(x) = N(0, 5), p(z|x) = N(2x/5, 1/5)."""
    x, weight, bias = np.array([[1.0]]), np.array([[2.0]]), np.zeros(1)
    evidence = linear_gaussian.log_evidence(x, weight, bias, variance=1.0)
    np.testing.assert_allclose(evidence, -0.1 - 0.5 * np.log(10 * np.pi))
    mean, covariance = linear_gaussian.posterior(x, weight, bias, variance=1.0)
    np.testing.assert_allclose([mean[0, 0], covariance[0, 0]], [0.4, 0.2])


def test_gap_is_zero_at_the_posterior_and_orthogonal_columns_have_one():
    x, weight, bias, _ = model(0)
    weight = np.linalg.qr(weight)[0] * np.array([2.0, 1.0, 0.5])
    mean, covariance = linear_gaussian.posterior(x, weight, bias, variance=VARIANCE)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-15)
    q = mean, np.tile(np.log(np.diag(covariance)), (len(x), 1))
    gap = linear_gaussian.gap(*q, mean, covariance)
    np.testing.assert_allclose(gap, 0.0, atol=1e-14)
    bound = linear_gaussian.bound(x, weight, bias, *q, variance=VARIANCE)
    evidence = linear_gaussian.log_evidence(x, weight, bias, variance=VARIANCE)
    np.testing.assert_allclose(bound, evidence, rtol=1e-12)


def linear(out):
    return networks.mlp(features=(), out=out, batch_norm=False)


def parts(params, x):
    """W, b of the decoder, and μ, log σ² of linear nets, in float64."""
    dense = {
        name: jax.tree.map(lambda p: np.asarray(p, np.float64), params[name]["Dense_0"])
        for name in ("encoder", "code", "decoder")
    }
    h = x @ dense["encoder"]["kernel"] + dense["encoder"]["bias"]
    out = h @ dense["code"]["kernel"] + dense["code"]["bias"]
    weight, bias = dense["decoder"]["kernel"].T, dense["decoder"]["bias"]
    return weight, bias, out[:, :K], out[:, K:]


@pytest.mark.parametrize("estimator", ["reparametrised", "score_function"])
def test_vae_with_linear_nets_is_the_bound(estimator):
    """Its loss, over many samples, within 4 s.e. of −ELBO; the gap makes log p(x)."""
    x = np.float32(0.5 * model(1)[0])
    method = methods.vae(
        linear(4), linear(D), latent=K, variance=VARIANCE, estimator=estimator
    )
    batch = {"image": jnp.asarray(x), "index": jnp.arange(len(x))}
    params, state = method.init(jax.random.key(0), batch)
    rngs = jax.random.split(jax.random.key(1), 20_000)
    draw = jax.jit(
        jax.vmap(lambda rng: method.loss(params, state, batch, rng)[1].metrics["elbo"])
    )
    elbo = np.asarray(draw(rngs), np.float64)
    weight, bias, *q = parts(params, np.asarray(x, np.float64))
    expected = linear_gaussian.bound(x, weight, bias, *q, variance=VARIANCE).mean()
    error = elbo.std() / len(elbo) ** 0.5
    assert abs(elbo.mean() - expected) < 4 * error
    post = linear_gaussian.posterior(x, weight, bias, variance=VARIANCE)
    evidence = linear_gaussian.log_evidence(x, weight, bias, variance=VARIANCE).mean()
    gap = linear_gaussian.gap(*q, *post).mean()
    print(f"bound {expected:.3f}, gap {gap:.3f}, s.e. {error:.4f}")
    assert gap > 30 * error
    assert abs(elbo.mean() + gap - evidence) < 4 * error


@pytest.mark.slow
def test_trained_vae_closes_the_gap():
    """On data of the model: evidence of the truth, and a gap that has gone."""
    rng = np.random.default_rng(0)
    truth = np.linalg.qr(rng.normal(size=(D, K)))[0] * np.array([3.0, 2.0, 1.0])
    n = 500
    noise = VARIANCE**0.5 * rng.normal(size=(n, D))
    x = np.float32(rng.normal(size=(n, K)) @ truth.T + noise)
    method = methods.vae(linear(D), linear(D), latent=K, variance=VARIANCE)
    batch = {"image": jnp.asarray(x), "index": jnp.arange(n)}
    params, _ = method.init(jax.random.key(0), batch)
    steps = 1500
    fit = functools.partial(
        loop.fit, optimizer=loop.cosine_adam(3e-2, steps), steps=steps, batch_size=n
    )
    trained, _ = jax.jit(lambda rng: fit(method, batch, rng))(jax.random.key(2))

    def gap_and_evidence(params):
        weight, bias, *q = parts(params, np.asarray(x, np.float64))
        post = linear_gaussian.posterior(x, weight, bias, variance=VARIANCE)
        evidence = linear_gaussian.log_evidence(x, weight, bias, variance=VARIANCE)
        return linear_gaussian.gap(*q, *post).mean(), evidence.mean()

    before, _ = gap_and_evidence(params)
    after, evidence = gap_and_evidence(trained)
    best = linear_gaussian.log_evidence(x, truth, np.zeros(D), variance=VARIANCE).mean()
    print(f"gap {before:.3f} -> {after:.5f}; evidence {evidence:.4f}, truth {best:.4f}")
    assert before > 1
    assert after < 0.03
    # Fitted to these data, the likelihood is above that of the truth.
    assert evidence > best

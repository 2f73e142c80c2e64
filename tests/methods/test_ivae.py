"""iVAE: the loss written out, and planted sources found again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import loop
from reference import variational as reference
from reference.compiled import methods

from rl_jax import evaluate, networks
from rl_jax.errors import UsageError

B, D, S, K = 6, 4, 3, 2


def linear(out):
    return networks.mlp(features=(), out=out, batch_norm=False)


def batch(seed=0, shape=(D,)):
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.arange(B, dtype=jnp.int32),
        "image": jnp.asarray(rng.normal(size=(B, *shape)), jnp.float32),
        "u": jnp.asarray([0, 2, 1, 1, 0, 2], jnp.int32),
    }


def small(**options):
    options = {"num_segments": S, "latent": K, "variance": 0.2} | options
    return methods.ivae(linear(5), linear(D), **options)


def test_loss_written_out():
    """With q(z|x, u) from x beside a one-hot u, and the row of u as prior."""
    method, rng = small(), jax.random.key(5)
    params, state = method.init(jax.random.key(0), batch())
    draw = np.random.default_rng(1)
    params["prior"] = jax.tree.map(
        lambda p: jnp.asarray(draw.normal(size=p.shape), jnp.float32), params["prior"]
    )
    value, aux = jax.jit(method.loss)(params, state, batch(), rng)

    def dense(name, x):
        layer = params[name]["Dense_0"]
        return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])

    x, u = np.float64(batch()["image"]), np.asarray(batch()["u"])
    code = dense("code", dense("encoder", np.concatenate([x, np.eye(S)[u]], 1)))
    mean, log_variance = code[:, :K], code[:, K:] - 3
    noise = np.stack(
        [jax.random.normal(jax.random.fold_in(rng, i), (K,)) for i in range(B)]
    )
    out = dense("decoder", mean + np.exp(log_variance / 2) * noise)
    log_p = reference.gaussian_log_likelihood(x, out, np.log(0.2)).mean()
    prior = {k: np.float64(v)[u] for k, v in params["prior"].items()}
    kl = reference.gaussian_kl(mean, log_variance, prior["mean"], prior["log_variance"])
    rate = kl.mean(0).sum()
    np.testing.assert_allclose(value, rate - log_p, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["rate"], rate, rtol=1e-5)
    encoded = method.encode(params, state, batch())
    np.testing.assert_allclose(encoded["z"], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("u", [-1, S])
def test_a_segment_there_is_not_is_loud(u):
    method, given = small(), batch() | {"u": jnp.full(B, u, jnp.int32)}
    params, state = method.init(jax.random.key(0), batch())
    value, _ = jax.jit(method.loss)(params, state, given, jax.random.key(0))
    assert np.isnan(value)


def test_images_are_flattened_and_restored():
    method = small()
    data = batch(shape=(2, 2, 1))
    params, state = method.init(jax.random.key(0), data)
    assert params["encoder"]["Dense_0"]["kernel"].shape == (D + S, 5)
    assert method.encode(params, state, data)["reconstruction"].shape == (B, 2, 2, 1)


def test_refuses():
    for options, message in (
        ({"num_segments": 0}, "num_segments must be at least 1, got 0"),
        ({"latent": 0}, "latent must be at least 1, got 0"),
        ({"variance": -1.0}, "variance must be > 0 and finite, got -1.0"),
    ):
        with pytest.raises(UsageError, match=f"ivae: {message}"):
            small(**options)
    method, data = small(), batch()
    params, state = method.init(jax.random.key(0), data)
    without = {k: v for k, v in data.items() if k != "u"}
    with pytest.raises(UsageError, match="ivae: the batch must have `u`, got"):
        method.encode(params, state, without)
    with pytest.raises(UsageError, match=r"expected u \[B\] int, got float32 \(6,\)"):
        method.loss(params, state, data | {"u": jnp.ones(B)}, jax.random.key(0))


# Nonlinear ICA.


def net(out):
    return networks.mlp(features=(64, 64), out=out, batch_norm=False)


def method_for(name, dim, segments):
    if name == "vae":
        return methods.vae(net(64), net(2 * dim), latent=dim, variance=0.01)
    return methods.ivae(net(64), net(2 * dim), num_segments=segments, latent=dim)


@functools.cache
def trainer(name, dim, segments, steps):
    """Four restarts at once: `(examples, rngs) -> (ELBO [4], z [4, n, d])`."""
    method = method_for(name, dim, segments)
    optimizer = loop.cosine_adam(3e-3, steps)

    def run(examples, rng):
        params, state = loop.fit(
            method, examples, rng, optimizer=optimizer, steps=steps, batch_size=256
        )
        _, aux = method.loss(params, state, examples, rng)
        return aux.metrics["elbo"], method.encode(params, state, examples)["z"]

    return jax.jit(jax.vmap(run, (None, 0)))


def score(name, seed, *, dim, segments, steps, shuffled=False):
    """MCC of the restart with the highest ELBO."""
    planted = reference.nonlinear_ica(
        seed, dim=dim, observed=2 * dim, segments=segments, per_segment=500
    )
    u = planted.u
    if shuffled:
        u = np.random.default_rng(5).permutation(u)
    examples = {
        "index": jnp.arange(len(u), dtype=jnp.int32),
        "image": jnp.asarray(planted.x),
        "u": jnp.asarray(u),
    }
    run = trainer(name, dim, segments, steps)
    elbo, z = run(examples, jax.random.split(jax.random.key(seed), 4))
    found = evaluate.mean_correlation(z[np.argmax(elbo)], planted.s)
    print(f"{name} d={dim} seed {seed}{' shuffled' * shuffled}: {found:.3f}")
    return found


@pytest.mark.slow
def test_finds_three_sources():
    """A VAE does not, and neither does an iVAE told the wrong segments."""
    setting = {"dim": 3, "segments": 20, "steps": 2000}
    found = score("ivae", 1, **setting)
    assert found >= 0.9
    assert score("vae", 1, **setting) <= found - 0.1
    assert score("ivae", 1, **setting, shuffled=True) <= found - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_four_sources(seed):
    setting = {"dim": 4, "segments": 30, "steps": 4000}
    found = score("ivae", seed, **setting)
    assert found >= 0.9
    assert score("vae", seed, **setting) <= found - 0.1

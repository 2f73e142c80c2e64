"""Denoising: what is corrupted, and the score a trained denoiser stands for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from reference import reconstruction as reference
from reference.compiled import methods

from rl_jax import networks, theory
from rl_jax.errors import UsageError
from rl_jax.methods.denoising_autoencoder import corrupted
from rl_jax.types import Network

SIGMA = 0.5
MIXTURE = theory.Mixture(
    np.ones(3) / 3,
    np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]]),
    np.tile(0.16 * np.eye(2), (3, 1, 1)),
)


def draw(rng, size=512):
    """Fresh points of the mixture."""
    rng_part, rng_point = jax.random.split(rng)
    part = jax.random.randint(rng_part, (size,), 0, 3)
    means = jnp.asarray(MIXTURE.means, jnp.float32)
    x = means[part] + 0.4 * jax.random.normal(rng_point, (size, 2))
    return {"index": jnp.arange(size), "image": x}


def denoiser(**options):
    """r(x̃) = W·φ(x̃) with φ of two hidden layers."""
    encoder = networks.mlp(features=(64,), out=64, activation="silu", batch_norm=False)

    def apply(params, state, x, *, train, rng=None):
        y, state = encoder.apply(params, state, x, train=train, rng=rng)
        return jax.nn.silu(y), state

    hidden = Network(encoder.init, apply)
    return methods.denoising_autoencoder(hidden, networks.linear(out=2), **options)


@functools.cache
def trained(noise=SIGMA, seed=0, steps=3000):
    method = denoiser(noise=noise)
    params, state, _ = scanned.run(method, draw, jax.random.key(seed), steps=steps)
    return method, params, state


def compared(method, params, state, taken_for=SIGMA):
    """Relative L2 error and cosine of the score under p_σ, in float64."""
    clean = draw(jax.random.key(99), 4000)["image"]
    x = clean + SIGMA * jax.random.normal(jax.random.key(98), clean.shape)
    batch = {"index": jnp.arange(len(x)), "image": x}
    r = np.float64(jax.jit(method.encode)(params, state, batch)["reconstruction"])
    with jax.enable_x64(True):
        x = np.float64(x)
        found = np.asarray(theory.denoiser_score(x, r, noise=taken_for))
        true = np.asarray(theory.mixture_score(x, MIXTURE, noise=SIGMA))
    size = np.linalg.norm(found), np.linalg.norm(true)
    error = np.linalg.norm(found - true) / size[1]
    return error, np.sum(found * true) / (size[0] * size[1])


@pytest.mark.slow
def test_denoiser_is_the_score():
    """(r(x̃) − x̃)/σ² within 10 % of ∇log p_σ, and along it."""
    error, cosine = compared(*trained())
    print(f"relative error {error:.3f}, cosine {cosine:.4f}")
    assert error <= 0.10
    assert cosine >= 0.99


@pytest.mark.slow
def test_noise_taken_for_another_gives_another_score():
    error, _ = compared(*trained(), taken_for=1.5 * SIGMA)
    print(f"relative error {error:.3f}")
    assert error > 0.5


@pytest.mark.slow
def test_training_with_another_noise_gives_another_score():
    """That of p of 1.5 σ, smoother than p_σ."""
    error, _ = compared(*trained(noise=1.5 * SIGMA))
    print(f"relative error {error:.3f}")
    assert error > 0.2


@pytest.mark.slow
def test_denoiser_is_the_score_for_other_seeds():
    for seed in (1, 2):
        error, cosine = compared(*trained(seed=seed))
        assert error <= 0.10
        assert cosine >= 0.99


def test_loss_written_out():
    """The encoder sees the corrupted image; the error is that to the clean one."""
    method = denoiser(noise=SIGMA, masked=0.3)
    batch, rng = draw(jax.random.key(0), 8), jax.random.key(5)
    params, state = method.init(jax.random.key(1), batch)
    value, _ = jax.jit(method.loss)(params, state, batch, rng)
    spoil = jax.jit(functools.partial(corrupted, noise=SIGMA, masked=0.3))
    seen = spoil(rng, batch["image"], batch["index"])
    out = method.encode(params, state, batch | {"image": seen})["reconstruction"]
    expected = reference.squared_distance(np.float64(batch["image"]), np.float64(out))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    # And evaluation adds nothing.
    clean = method.encode(params, state, batch)["reconstruction"]
    assert abs(reference.squared_distance(batch["image"], clean) - expected) > 1e-3


def test_corruption():
    x = jnp.full((500, 8, 8, 1), 2.0)
    index, rng = 7 * jnp.arange(500), jax.random.key(3)
    spoil = jax.jit(functools.partial(corrupted, noise=0.5, masked=0.25))
    found = np.asarray(spoil(rng, x, index))
    hidden = found == 0
    assert abs(hidden.mean() - 0.25) < 0.01
    rest = found[~hidden]
    assert abs(rest.mean() - 2) < 0.01
    assert abs(rest.std() - 0.5) < 0.01
    # It belongs to the example, not to its place.
    order = np.random.default_rng(0).permutation(500)
    moved = spoil(rng, x, index[order])
    np.testing.assert_array_equal(moved, found[order])
    assert len(np.unique(hidden.reshape(500, -1), axis=0)) == 500
    none = jax.jit(functools.partial(corrupted, noise=0.0, masked=0.0))
    nothing = none(rng, x, index)
    np.testing.assert_array_equal(nothing, x)


def test_refused():
    with pytest.raises(UsageError, match="noise must be >= 0 and finite, got -1"):
        denoiser(noise=-1.0)
    with pytest.raises(UsageError, match=r"masked must be in \[0, 1\], got 1.5"):
        denoiser(masked=1.5)
    with pytest.raises(UsageError, match="noise or masked must be > 0"):
        denoiser(noise=0.0)
    with pytest.raises(UsageError, match="denoising_autoencoder: error must be one"):
        denoiser(error="l1")

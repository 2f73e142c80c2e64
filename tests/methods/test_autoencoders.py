"""Linear and plain autoencoders: the loss written out, the floor, and a circle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from reference import reconstruction as reference
from reference import variational
from reference.compiled import methods

from rl_jax import networks, theory
from rl_jax.errors import UsageError

B = 6


def linear(out):
    return networks.mlp(features=(), out=out, batch_norm=False)


def batch(seed=0, shape=(4, 2, 1)):
    x = np.random.default_rng(seed).uniform(size=(B, *shape))
    return {"index": jnp.arange(B), "image": jnp.asarray(x, jnp.float32)}


def dense(params, x):
    layer = params["Dense_0"]
    return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


@pytest.mark.parametrize("error", ["squared", "cross_entropy"])
def test_loss_written_out(error):
    method = methods.autoencoder(linear(5), linear(8), error=error)
    params, state = method.init(jax.random.key(0), batch())
    value, aux = jax.jit(method.loss)(params, state, batch(), jax.random.key(1))
    x = np.float64(batch()["image"]).reshape(B, 8)
    h = dense(params["encoder"], x)
    out = dense(params["decoder"], h)
    expected = reference.squared_distance(x, out)
    if error == "cross_entropy":
        expected = -variational.bernoulli_log_likelihood(x, out).mean()
        out = 1 / (1 + np.exp(-out))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    explained = 1 - reference.squared_distance(x, out) / x.var(0).sum()
    np.testing.assert_allclose(aux.metrics["explained"], explained, rtol=1e-4)
    np.testing.assert_allclose(aux.features["h"][:, 0], h, rtol=1e-5, atol=1e-6)
    found = method.encode(params, state, batch())
    np.testing.assert_allclose(found["h"], h, rtol=1e-5, atol=1e-6)
    assert found["reconstruction"].shape == (B, 4, 2, 1)
    found = found["reconstruction"].reshape(B, 8)
    np.testing.assert_allclose(found, out, rtol=1e-5, atol=1e-6)


# The linear autoencoder: d = 20, k = 3, a gap in the spectrum at k.

D, K = 20, 3
SPECTRUM = np.array([5, 3, 2, 1, 0.8, *np.linspace(0.5, 0.05, 15)])


@functools.cache
def spread():
    """Data around a mean that is not 0, and its covariance."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    x = rng.normal(size=(2000, D)) * SPECTRUM**0.5 @ turn.T
    x += 0.3 * rng.normal(size=D)
    return x, np.cov(x.T, ddof=0)


def maps(params):
    return [np.float64(params[k]["Dense_0"]["kernel"]) for k in ("encoder", "decoder")]


def whole(x):
    rows = {"index": jnp.arange(len(x)), "image": jnp.asarray(x, jnp.float32)}
    return lambda rng: rows


@functools.cache
def trained(seed=0, steps=2500):
    method = methods.linear_autoencoder(code=K)
    params, state, metrics = scanned.run(
        method, whole(spread()[0]), jax.random.key(seed), steps=steps, rate=2e-2
    )
    return method, params, state, np.asarray(metrics["loss"])


def test_linear_autoencoder_is_pca():
    """Its floor to 1e-6, and W₂W₁ the projector on the leading eigenspace."""
    x, sigma = spread()
    floor, projector = theory.pca_floor(sigma, k=K), theory.pca_projector(sigma, k=K)
    expected = reference.principal_projector(x, K)
    np.testing.assert_allclose(projector, expected, atol=1e-12)
    for seed in range(3):
        method, params, state, losses = trained(seed)
        first, second = maps(params)
        error = theory.linear_autoencoder_error(sigma, first, second)
        excess = error / floor - 1
        distance = np.linalg.norm(first @ second - projector)
        print(f"excess {excess:.1e}, distance {distance:.1e}, loss {losses[-1]:.6f}")
        assert -1e-12 < excess <= 1e-6
        assert distance <= 1e-3
        # The biases have found the mean.
        assert losses[-1] < floor * (1 + 1e-5)
        out = method.encode(params, state, whole(x)(None))["reconstruction"]
        np.testing.assert_allclose(np.mean(out, axis=0), x.mean(0), atol=1e-3)


def test_code_is_known_up_to_an_invertible_map():
    x, _ = spread()
    method, params, state, _ = trained()
    rng = np.random.default_rng(1)
    r = np.float32(rng.normal(size=(K, K)) + 2 * np.eye(K))
    inverse = np.linalg.inv(r).astype(np.float32)

    def turned(first, second):
        encoder, decoder = params["encoder"]["Dense_0"], params["decoder"]["Dense_0"]
        encoder = {"kernel": encoder["kernel"] @ first, "bias": encoder["bias"] @ first}
        decoder = decoder | {"kernel": second @ decoder["kernel"]}
        new = {"encoder": {"Dense_0": encoder}, "decoder": {"Dense_0": decoder}}
        return float(jax.jit(method.loss)(new, state, whole(x)(None), None)[0])

    same = turned(np.eye(K, dtype=np.float32), np.eye(K, dtype=np.float32))
    np.testing.assert_allclose(turned(r, inverse), same, rtol=1e-5)
    assert turned(r, r) > 1.1 * same


def test_no_random_maps_beat_the_floor():
    """As the method's own loss on centred data, biases at 0."""
    x, sigma = spread()
    rows = whole(x - x.mean(0))(None)
    method = methods.linear_autoencoder(code=K)
    loss = jax.jit(lambda params: method.loss(params, STATE, rows, None)[0])
    best, rng = np.inf, np.random.default_rng(2)
    for _ in range(100):
        basis = np.linalg.qr(rng.normal(size=(D, K)))[0]
        pair = {"encoder": basis, "decoder": basis.T}
        biases = {"encoder": np.zeros(K), "decoder": np.zeros(D)}
        params = {
            role: {"Dense_0": {"kernel": pair[role], "bias": biases[role]}}
            for role in pair
        }
        best = min(best, float(loss(jax.tree.map(np.float32, params))))
    floor = theory.pca_floor(sigma, k=K)
    print(f"floor {floor:.3f}, best of 100 random projections {best:.3f}")
    assert best > floor


STATE = {"encoder": {}, "decoder": {}}


# A circle: one number says where on it a point is, but not linearly.


def circle():
    angle = 2 * np.pi * np.arange(1000) / 1000
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def bent(seed=0, features=(64, 64), steps=1000):
    """Loss of an autoencoder with a code of one number, after training."""
    encoder = networks.mlp(
        features=features, out=1, activation="tanh", batch_norm=False
    )
    decoder = networks.mlp(
        features=features[::-1], out=2, activation="tanh", batch_norm=False
    )
    method = methods.autoencoder(encoder, decoder)
    _, _, metrics = scanned.run(
        method, whole(circle()), jax.random.key(seed), steps=steps
    )
    return float(metrics["loss"][-1])


@pytest.mark.slow
def test_circle_beats_the_linear_floor():
    """Below 0.1, where linear maps of any depth reach ½ and no less."""
    floor = theory.pca_floor(np.cov(circle().T, ddof=0), k=1)
    np.testing.assert_allclose(floor, 0.5)
    found, flat = bent(), bent(features=())
    print(f"{found:.4f}; linear {flat:.4f}")
    assert found < 0.1
    assert 0.4999 < flat < 0.52


@pytest.mark.slow
def test_circle_of_other_seeds():
    assert max(bent(seed) for seed in (1, 2)) < 0.1


def test_images_of_any_rank():
    for shape in ((2,), (3, 4)):
        data = batch(shape=shape)
        size = int(np.prod(shape))
        for method in (
            methods.linear_autoencoder(code=2),
            methods.autoencoder(linear(5), linear(size)),
        ):
            pair = jax.eval_shape(method.init, jax.random.key(0), data)
            out = jax.eval_shape(method.encode, *pair, data)
            assert out["reconstruction"].shape == (B, *shape)


def test_refused():
    with pytest.raises(UsageError, match="code must be at least 1, got 0"):
        methods.linear_autoencoder(code=0)
    with pytest.raises(UsageError, match="squared, cross_entropy, got 'l2'"):
        methods.autoencoder(linear(5), linear(8), error="l2")
    method = methods.autoencoder(linear(5), linear(8))

    def init(data):
        jax.eval_shape(method.init, jax.random.key(0), data)

    with pytest.raises(UsageError, match="autoencoder: the batch must have `image`"):
        init({"index": jnp.arange(B)})
    with pytest.raises(UsageError, match=r"\(6, 8\).*\(6, 3, 3, 1\).*9 numbers"):
        init(batch(shape=(3, 3, 1)))
    raw = jnp.zeros((B, 4, 2, 1), jnp.uint8)
    with pytest.raises(UsageError, match="float dtype, got uint8"):
        init(batch() | {"image": raw})

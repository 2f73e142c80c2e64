"""VAE: the loss written out, both gradient estimators, rate against distortion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import loop
from reference import variational as reference
from reference.compiled import methods

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.methods import elbo
from rl_jax.types import Network

B = 6


def linear(out):
    return networks.mlp(features=(), out=out, batch_norm=False)


def net(*features, out):
    return networks.mlp(features=features, out=out, batch_norm=False)


def hidden(width):
    """One hidden layer, relu(Wx + b)."""
    layer = linear(width)

    def apply(params, state, x, *, train, rng=None):
        y, state = layer.apply(params, state, x, train=train, rng=rng)
        return jax.nn.relu(y), state

    return Network(layer.init, apply)


def batch(seed=0, shape=(4, 2, 1)):
    x = np.random.default_rng(seed).uniform(size=(B, *shape))
    index = jnp.arange(B, dtype=jnp.int32) + 10 * seed
    return {"index": index, "image": jnp.asarray(x, jnp.float32)}


def small(**options):
    method = methods.vae(linear(5), linear(8), latent=3, **options)
    return method, *method.init(jax.random.key(0), batch())


def by_hand(params, rng, likelihood="gaussian", variance=0.05):
    """The sampled distortion, and KL [B, d], in float64."""

    def dense(name, x):
        layer = params[name]["Dense_0"]
        return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])

    x = np.float64(batch()["image"])
    code = dense("code", dense("encoder", x.reshape(B, -1)))
    mean, log_variance = code[:, :3], code[:, 3:]
    noise = np.stack(
        [jax.random.normal(jax.random.fold_in(rng, i), (3,)) for i in batch()["index"]]
    )
    out = dense("decoder", mean + np.exp(log_variance / 2) * noise).reshape(x.shape)
    if likelihood == "gaussian":
        log_p = reference.gaussian_log_likelihood(x, out, np.log(variance))
    else:
        log_p = reference.bernoulli_log_likelihood(x, out)
    return -log_p.mean(), reference.gaussian_kl(mean, log_variance)


@pytest.mark.parametrize("estimator", ["reparametrised", "score_function"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_loss_written_out(likelihood, estimator):
    method, params, state = small(likelihood=likelihood, estimator=estimator)
    rng = jax.random.key(5)
    value, aux = jax.jit(method.loss)(params, state, batch(), rng)
    distortion, kl = by_hand(params, rng, likelihood)
    rate = kl.mean(0).sum()
    np.testing.assert_allclose(value, distortion + rate, rtol=1e-5)
    expected = {
        "distortion": distortion,
        "rate": rate,
        "elbo": -distortion - rate,
        "active_units": np.sum(kl.mean(0) > 0.01),
        "beta": 1.0,
    }
    assert set(aux.metrics) == set(expected)
    for name, metric in expected.items():
        np.testing.assert_allclose(aux.metrics[name], metric, rtol=1e-5, err_msg=name)


def test_free_bits_and_beta_enter_the_loss():
    rng = jax.random.key(5)
    _, params, _ = small()
    distortion, kl = by_hand(params, rng)
    free = float(np.median(kl.mean(0)))
    method, params, state = small(beta=2.5, free_bits=free)
    value, aux = jax.jit(method.loss)(params, state, batch(), rng)
    paid = reference.free_bits(kl, threshold=free)
    assert paid > kl.mean(0).sum() + 1e-3
    np.testing.assert_allclose(value, distortion + 2.5 * paid, rtol=1e-5)
    # The bound reported is the bound, whatever is paid for.
    np.testing.assert_allclose(
        aux.metrics["elbo"], -distortion - kl.mean(0).sum(), rtol=1e-5
    )


def test_all_bits_free_leave_the_distortion():
    """A threshold above every dimension: its gradient is that of beta = 0."""
    rng, grads = jax.random.key(5), []
    for options in ({"free_bits": 1e3}, {"beta": 0.0}):
        method, params, state = small(**options)
        grad = jax.jit(jax.grad(lambda *a, m=method: m.loss(*a)[0]))
        grads.append(grad(params, state, batch(), rng))
    for a, b in zip(*map(jax.tree.leaves, grads), strict=True):
        np.testing.assert_array_equal(a, b)


def test_beta_rises_linearly_from_zero():
    method, params, state = small(beta=3.0, beta_warmup=4)
    loss = jax.jit(method.loss)
    rng, seen = jax.random.key(5), []
    distortion, kl = by_hand(params, rng)
    for t in range(6):
        assert int(state.step) == t
        value, aux = loss(params, state, batch(), rng)
        state = aux.state
        seen.append(float(aux.metrics["beta"]))
        beta = 3 * min(1, t / 4)
        np.testing.assert_allclose(value, distortion + beta * kl.mean(0).sum(), 1e-5)
    assert seen == [0.0, 0.75, 1.5, 2.25, 3.0, 3.0]


def test_encode_gives_the_mean_and_its_reconstruction():
    for likelihood in ("gaussian", "bernoulli"):
        method, params, state = small(likelihood=likelihood)
        out = method.encode(params, state, batch())
        assert {k: v.shape for k, v in out.items()} == {
            "h": (B, 5),
            "z": (B, 3),
            "reconstruction": (B, 4, 2, 1),
        }
        decoder = params["decoder"]["Dense_0"]
        expected = out["z"] @ decoder["kernel"] + decoder["bias"][None]
        if likelihood == "bernoulli":
            expected = 1 / (1 + np.exp(-expected))
        found = out["reconstruction"].reshape(B, -1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_images_of_any_rank():
    for shape in ((2,), (3, 4)):
        size = int(np.prod(shape))
        method = methods.vae(linear(5), linear(size), latent=2)
        data = batch(shape=shape)
        params, state = jax.jit(method.init)(jax.random.key(0), data)
        loss = jax.jit(method.loss)
        assert np.isfinite(loss(params, state, data, jax.random.key(1))[0])
        out = jax.jit(method.encode)(params, state, data)
        assert out["reconstruction"].shape == (B, *shape)


# Reparametrised and score-function gradients.

DRAWS = 2000


def gradient_moments(estimator, params, state, data):
    """Mean and variance over draws of the gradient by encoder and decoder."""
    method = gradient_vae(estimator)

    def gradient(rng):
        grads = jax.grad(lambda p: method.loss(p, state, data, rng)[0])(params)
        sides = {"encoder": (grads["encoder"], grads["code"])}
        sides["decoder"] = grads["decoder"]
        return {k: jax.flatten_util.ravel_pytree(v)[0] for k, v in sides.items()}

    @jax.jit
    def moments(rngs):
        def add(total, rngs):
            g = jax.vmap(gradient)(rngs)
            more = jax.tree.map(lambda x: jnp.stack([x.sum(0), (x**2).sum(0)]), g)
            return jax.tree.map(jnp.add, total, more), None

        shapes = jax.eval_shape(gradient, rngs[0, 0])
        zero = jax.tree.map(lambda s: jnp.zeros((2, *s.shape)), shapes)
        return jax.lax.scan(add, zero, rngs)[0]

    rngs = jax.random.split(jax.random.key(9), (DRAWS // 50, 50))
    out = {}
    for side, total in moments(rngs).items():
        mean, square = np.asarray(total, np.float64) / DRAWS
        out[side] = mean, np.maximum(square - mean**2, 0)
    return out


def gradient_vae(estimator):
    return methods.vae(
        hidden(64), net(64, out=64), latent=2, variance=0.1, estimator=estimator
    )


@functools.cache
def gradient_setting():
    """Parameters after some training, 32 digits, reparametrised moments there."""
    train, _ = loop.digits()
    method, steps = gradient_vae("reparametrised"), 300
    params, state = jax.jit(
        lambda rng: loop.fit(
            method,
            train,
            rng,
            optimizer=loop.cosine_adam(2e-3, steps),
            steps=steps,
            batch_size=128,
        )
    )(jax.random.key(0))
    setting = params, state, {k: v[:32] for k, v in train.items()}
    return setting, gradient_moments("reparametrised", *setting)


def beyond(a, b):
    """The share of coordinates whose means differ by more than 3 s.e."""
    error = np.sqrt((a[1] + b[1]) / DRAWS)
    return np.mean(np.abs(a[0] - b[0]) > 3 * error)


def test_both_gradients_have_the_same_mean():
    setting, reparametrised = gradient_setting()
    score = gradient_moments("score_function", *setting)
    share = beyond(reparametrised["encoder"], score["encoder"])
    ratio = score["encoder"][1].sum() / reparametrised["encoder"][1].sum()
    print(f"beyond 3 s.e.: {share:.2%}; variance ratio {ratio:.0f}")
    assert share <= 0.02
    assert 10 <= ratio <= 3000
    # The decoder's gradient needs no estimator: it is the same draw by draw.
    np.testing.assert_allclose(
        score["decoder"][0], reparametrised["decoder"][0], rtol=1e-4, atol=1e-5
    )


def test_a_score_without_log_sigma_is_seen(monkeypatch):
    """The control: −½(z − μ)²/σ² alone is not log q, and the test above sees it."""

    def without_normaliser(x, mean, log_variance):
        log_variance = jnp.broadcast_to(log_variance, x.shape)
        square = (x - mean) ** 2 * jnp.exp(-log_variance)
        return -0.5 * square.reshape(len(x), -1).sum(1)

    monkeypatch.setattr(elbo, "gaussian_log_likelihood", without_normaliser)
    setting, reparametrised = gradient_setting()
    share = beyond(
        reparametrised["encoder"],
        gradient_moments("score_function", *setting)["encoder"],
    )
    print(f"beyond 3 s.e.: {share:.2%}")
    assert share > 0.3


# Rate and distortion.

BETAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


@functools.cache
def sweep(seed=0, steps=1000):
    """Metrics on all training digits, one entry for each beta, same initial nets."""
    train, _ = loop.digits()
    optimizer = loop.cosine_adam(2e-3, steps)

    def run(beta, rng):
        method = methods.vae(hidden(128), net(128, out=64), latent=8, beta=beta)
        params, state = loop.fit(
            method, train, rng, optimizer=optimizer, steps=steps, batch_size=128
        )
        return method.loss(params, state, train, rng)[1].metrics

    runs = jax.jit(jax.vmap(run, (0, None)))
    return jax.device_get(runs(jnp.asarray(BETAS), jax.random.key(seed)))


@pytest.mark.slow
def test_beta_draws_the_rate_distortion_curve():
    """Strictly monotone up to beta = 10, collapsed from 30 on."""
    found = sweep()
    for name in ("rate", "distortion", "active_units"):
        print(name, np.round(found[name], 3))
    np.testing.assert_allclose(found["beta"], BETAS)
    upto = BETAS.index(10.0) + 1
    assert np.all(np.diff(found["rate"][:upto]) < 0)
    assert np.all(np.diff(found["distortion"][:upto]) > 0)
    assert np.all(found["rate"][upto:] < 0.05)
    assert np.all(found["active_units"][upto:] == 0)
    assert np.all(found["active_units"][: upto - 1] == 8)
    # The bound itself is best where the loss is the bound.
    assert np.argmax(found["elbo"]) == BETAS.index(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent must be at least 1, got 0"),
        ({"likelihood": "normal"}, "one of gaussian, bernoulli, got 'normal'"),
        ({"estimator": "reinforce"}, "reparametrised, score_function, got 'reinforce'"),
        ({"variance": 0.0}, "variance must be > 0 and finite, got 0.0"),
        ({"beta": -1.0}, "beta must be >= 0 and finite, got -1.0"),
        ({"beta": float("nan")}, "beta must be >= 0 and finite, got nan"),
        ({"beta_warmup": -1}, "beta_warmup must be at least 0, got -1"),
        ({"free_bits": -0.1}, "free_bits must be >= 0 and finite, got -0.1"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"vae: .*{message}"):
        methods.vae(linear(5), linear(8), **options)


def test_refuses_batches_it_cannot_use():
    method, params, state = small()
    data = batch()

    def init(data):
        jax.eval_shape(method.init, jax.random.key(0), data)

    with pytest.raises(UsageError, match="vae: the batch must have `image`, got"):
        init({"index": data["index"]})
    with pytest.raises(UsageError, match=r"float dtype, got uint8 \(6, 4, 2, 1\)"):
        init(data | {"image": data["image"].astype(jnp.uint8)})
    with pytest.raises(UsageError, match=r"\(6, 8\).*\(6, 3, 3, 1\).*9 numbers"):
        init(batch(shape=(3, 3, 1)))
    with pytest.raises(UsageError, match="vae: the batch must have `image`"):
        method.encode(params, state, {"index": data["index"]})

"""The variational bottleneck: losses written out, limits, accuracy against rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import loop
from reference import losses as contrastive
from reference import variational as reference
from reference.compiled import methods

from rl_jax import networks
from rl_jax.errors import UsageError

B, D, C, K = 6, 5, 3, 4


def linear(out):
    return networks.mlp(features=(), out=out, batch_norm=False)


def batch():
    rng = np.random.default_rng(0)
    views = jnp.asarray(rng.normal(size=(B, 2, D)), jnp.float32)
    return {
        "index": jnp.arange(B, dtype=jnp.int32) + 3,
        "image": views[:, 0],
        "views": views,
        "label": jnp.asarray([0, 2, -1, 1, 1, -1], jnp.int32),
    }


def small(**options):
    options = {"num_classes": C, "latent": K} | options
    method = methods.vib(linear(7), **options)
    return method, *method.init(jax.random.key(0), batch())


def dense(params, name, x):
    layer = params[name]["Dense_0"]
    return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


def code(params, x):
    out = dense(params, "code", dense(params, "encoder", np.float64(x)))
    return out[..., :K], out[..., K:]


def noise(rng, *shape):
    draw = [
        jax.random.normal(jax.random.fold_in(rng, i), shape) for i in batch()["index"]
    ]
    return np.float64(np.stack(draw))


def test_encoding_classifies_the_mean_code():
    method, params, state = small()
    found = method.encode(params, state, batch())
    mean, _ = code(params, batch()["image"])
    np.testing.assert_allclose(found["z"], mean, rtol=1e-4, atol=1e-6)
    expected = dense(params, "classifier", mean)
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def cross_entropy(logits, label):
    """Mean over the examples whose label is known."""
    known = label >= 0
    logits, label = logits[known], label[known]
    top = logits - logits.max(1, keepdims=True)
    log_p = top - np.log(np.exp(top).sum(1, keepdims=True))
    return -log_p[np.arange(len(label)), label].mean()


def test_loss_written_out():
    """Examples without a label count neither in the task nor in the rate."""
    method, params, state = small(beta=0.3)
    rng = jax.random.key(5)
    value, aux = jax.jit(method.loss)(params, state, batch(), rng)
    mean, log_variance = code(params, batch()["image"])
    t = mean + np.exp(log_variance / 2) * noise(rng, K)
    logits, label = dense(params, "classifier", t), np.asarray(batch()["label"])
    known = label >= 0
    kl = reference.gaussian_kl(mean, log_variance)[known].mean(0)
    distortion = cross_entropy(logits, label)
    expected = {
        "distortion": distortion,
        "rate": kl.sum(),
        "active_units": np.sum(kl > 0.01),
        "accuracy": np.mean((logits.argmax(1) == label)[known]),
    }
    assert set(aux.metrics) == set(expected)
    for name, metric in expected.items():
        np.testing.assert_allclose(aux.metrics[name], metric, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(value, distortion + 0.3 * kl.sum(), rtol=1e-5)


def test_without_any_label_there_is_no_loss():
    method, params, state = small()
    none = batch() | {"label": jnp.full(B, -1, jnp.int32)}
    grad = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (value, _), grads = grad(params, state, none, jax.random.key(1))
    assert value == 0
    assert all(np.all(np.asarray(g) == 0) for g in jax.tree.leaves(grads))


def test_contrastive_loss_written_out():
    method = methods.contrastive_vib(linear(7), latent=K, beta=0.3, temperature=0.2)
    params, state = method.init(jax.random.key(0), batch())
    rng = jax.random.key(5)
    value, aux = jax.jit(method.loss)(params, state, batch(), rng)
    mean, log_variance = code(params, batch()["views"])
    t = mean + np.exp(log_variance / 2) * noise(rng, 2, K)
    distortion = contrastive.info_nce(t[:, 0], t[:, 1], temperature=0.2)[0]
    rate = reference.gaussian_kl(mean, log_variance).mean((0, 1)).sum()
    np.testing.assert_allclose(value, distortion + 0.3 * rate, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["rate"], rate, rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["distortion"], distortion, rtol=1e-5)
    assert aux.features["z"].shape == (B, 2, K)
    np.testing.assert_allclose(aux.features["z"], mean, rtol=1e-4, atol=1e-5)


def test_without_noise_and_price_it_is_a_plain_classifier():
    """σ = e⁻³⁰, β = 0: value and gradients of the cross-entropy of V(Wh + b) + c."""
    method, params, state = small(beta=0.0)
    layer = params["code"]["Dense_0"]
    layer["kernel"] = layer["kernel"].at[:, K:].set(0.0)
    layer["bias"] = layer["bias"].at[K:].set(-60.0)
    encoder, classifier = linear(7), linear(C)
    label = batch()["label"]

    def plain(p):
        h, _ = encoder.apply(p["encoder"], {}, batch()["image"], train=True)
        code = p["code"]["Dense_0"]
        t = h @ code["kernel"][:, :K] + code["bias"][None, :K]
        logits, _ = classifier.apply(p["classifier"], {}, t, train=True)
        rows = optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.maximum(label, 0)
        )
        return jnp.sum(rows * (label >= 0)) / jnp.sum(label >= 0)

    def bottleneck(p):
        return method.loss(p, state, batch(), jax.random.key(1))[0]

    target, target_grads = jax.jit(jax.value_and_grad(plain))(params)
    value, grads = jax.jit(jax.value_and_grad(bottleneck))(params)
    np.testing.assert_allclose(value, target, rtol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (grads, target_grads)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    mean, _ = code(params, batch()["image"])
    expected = cross_entropy(dense(params, "classifier", mean), np.asarray(label))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


# Accuracy and rate on digits.

BETAS = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
STEPS = 400


def encoder():
    return networks.mlp(features=(64,), out=32, batch_norm=False)


@functools.cache
def sweep():
    """Metrics on held-out digits, one entry for each beta, same initial nets."""
    train, held_out = loop.digits()
    optimizer = loop.cosine_adam(3e-3, STEPS)

    def run(beta, rng):
        method = methods.vib(encoder(), num_classes=10, latent=16, beta=beta)
        params, state = loop.fit(
            method, train, rng, optimizer=optimizer, steps=STEPS, batch_size=128
        )
        return method.loss(params, state, held_out, rng)[1].metrics

    runs = jax.jit(jax.vmap(run, (0, None)))
    return jax.device_get(runs(jnp.asarray(BETAS), jax.random.key(0)))


def plain_accuracy():
    """The same nets and steps without a bottleneck, on held-out digits."""
    train, held_out = loop.digits()
    classifier = networks.chain(encoder=encoder(), code=linear(16), head=linear(10))
    optimizer = loop.cosine_adam(3e-3, STEPS)

    def logits(params, x):
        return classifier.apply(params, {n: {} for n in params}, x, train=False)[0]

    def loss(params, batch):
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(params, batch["image"]), batch["label"]
        ).mean()

    def step(carry, rng):
        params, opt_state = carry
        rows = jax.random.randint(rng, (128,), 0, len(train["label"]))
        grads = jax.grad(loss)(params, {k: v[rows] for k, v in train.items()})
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    params, _ = classifier.init(jax.random.key(0), train["image"][:2])
    start, rngs = (
        (params, optimizer.init(params)),
        jax.random.split(jax.random.key(1), STEPS),
    )
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, rngs))(start)
    hit = logits(params, held_out["image"]).argmax(1) == held_out["label"]
    return float(hit.mean())


@pytest.mark.slow
def test_rate_falls_with_its_price_and_accuracy_at_last():
    found, plain = sweep(), plain_accuracy()
    for name in ("rate", "accuracy", "distortion", "active_units"):
        print(name, np.round(found[name], 4))
    print(f"plain classifier {plain:.3f}")
    assert np.all(np.diff(found["rate"]) < 0)
    assert abs(found["accuracy"][0] - plain) <= 0.02
    assert np.all(found["accuracy"][: BETAS.index(1e-2) + 1] >= plain - 0.03)
    # A nat saved in vain: ten classes are worth log 10 = 2.3 nats.
    assert found["accuracy"][-1] <= 0.2
    assert found["rate"][-1] < 0.05
    assert found["active_units"][-1] == 0


@pytest.mark.slow
def test_contrastive_rate_falls_with_its_price():
    train, _ = loop.digits()
    noisy = train["image"][:, None] + 0.2 * jax.random.normal(
        jax.random.key(3), (len(train["image"]), 2, 8, 8, 1)
    )
    examples = train | {"views": noisy}
    optimizer = loop.cosine_adam(3e-3, 200)

    def run(beta, rng):
        method = methods.contrastive_vib(encoder(), latent=16, beta=beta)
        params, state = loop.fit(
            method, examples, rng, optimizer=optimizer, steps=200, batch_size=128
        )
        some = {k: v[:512] for k, v in examples.items()}
        return method.loss(params, state, some, rng)[1].metrics

    betas = jnp.asarray([1e-4, 1e-2, 1e-1, 1.0])
    found = jax.device_get(jax.jit(jax.vmap(run, (0, None)))(betas, jax.random.key(0)))
    for name in ("rate", "distortion", "active_units"):
        print(name, np.round(found[name], 4))
    assert np.all(np.diff(found["rate"]) < 0)
    assert np.all(np.diff(found["distortion"]) > 0)
    # Codes that carry nothing do not tell the pairs apart: log B.
    assert found["rate"][-1] < 0.05
    assert found["distortion"][-1] > np.log(512) - 0.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(num_classes=1), "vib: num_classes must be at least 2, got 1"),
        (lambda: small(latent=0), "vib: latent must be at least 1, got 0"),
        (lambda: small(beta=-1.0), "vib: beta must be >= 0 and finite, got -1.0"),
        (
            lambda: methods.contrastive_vib(linear(7), temperature=0.0),
            "contrastive_vib: temperature must be > 0 and finite, got 0.0",
        ),
    ],
)
def test_refuses_values_out_of_range(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_refuses_batches_it_cannot_use():
    method, params, state = small()
    data = {k: v for k, v in batch().items() if k not in ("label", "views")}
    with pytest.raises(UsageError, match="vib: the batch must have `label`, got"):
        method.loss(params, state, data, jax.random.key(0))
    contrast = methods.contrastive_vib(linear(7))
    with pytest.raises(UsageError, match="expected two views .* got a batch of"):
        contrast.init(jax.random.key(0), data)
    params, state = contrast.init(jax.random.key(0), batch())
    one = batch() | {"views": batch()["views"][:, :1]}
    with pytest.raises(UsageError, match="expected two views"):
        contrast.loss(params, state, one, jax.random.key(0))

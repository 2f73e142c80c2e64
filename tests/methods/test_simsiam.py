"""SimSiam by hand, and the collapse that its stop-gradient prevents."""

import functools

import jax
import numpy as np
import pytest
from reference import losses as reference
from reference.compiled import methods
from training import on_digits

from rl_jax import augment, networks, train
from rl_jax.types import Network


def linear(d_in, d_out, seed):
    """A linear network without state, so that a step can be written out by hand."""

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        return x @ params, state

    kernel = 0.5 * jax.random.normal(jax.random.key(seed), (d_in, d_out))
    return Network(lambda rng, x: (kernel, {}), apply)


PARTS = linear(5, 4, 1), linear(4, 3, 2), linear(3, 3, 3)


VIEWS = jax.random.normal(jax.random.key(0), (6, 2, 5))
BATCH = {"views": VIEWS, "image": VIEWS[:, 0]}


def value_and_grad(method, state=None):
    params, start = method.init(jax.random.key(0), BATCH)
    return jax.value_and_grad(method.loss, has_aux=True)(
        params, start if state is None else state, BATCH, jax.random.key(1)
    )


def step(stop_gradient):
    """Loss and gradients of one step, and the same in float64."""
    method = methods.simsiam(*PARTS, stop_gradient=stop_gradient)
    params, _ = method.init(jax.random.key(0), BATCH)
    (value, aux), grads = value_and_grad(method)
    f, g, q = (np.asarray(params[n], np.float64) for n in
               ("encoder", "projector", "predictor"))  # fmt: skip
    x = np.moveaxis(np.asarray(VIEWS, np.float64), 1, 0)
    total, expected = 0.0, {"projector": 0.0, "predictor": 0.0}
    for i, j in ((0, 1), (1, 0)):
        h, z, target = x[i] @ f, x[i] @ f @ g, x[j] @ f @ g
        loss, (dp, dz) = reference.negative_cosine(z @ q, target)
        total += loss / 2
        expected["predictor"] += z.T @ dp / 2
        expected["projector"] += h.T @ dp @ q.T / 2
        if not stop_gradient:
            expected["projector"] += (x[j] @ f).T @ dz / 2
    return (value, aux, grads), (total, expected)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_equals_the_paper(stop_gradient):
    (value, aux, grads), (total, expected) = step(stop_gradient)
    np.testing.assert_allclose(value, total, rtol=1e-5)
    assert aux.features["z"].shape == (6, 2, 3)
    for name, gradient in expected.items():
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-4, atol=1e-6)


def test_byol_with_a_target_that_follows_at_once_is_simsiam():
    """No gradient through the target: 4 + 2a + 2b has four times that of (a + b)/2."""
    byol = methods.byol(*PARTS, total_steps=100, decay=0.0)
    (value, _), grads = value_and_grad(byol)
    (other, _), expected = value_and_grad(methods.simsiam(*PARTS))
    np.testing.assert_allclose(value, 4 + 4 * other, rtol=1e-6)
    for name, gradient in expected.items():
        np.testing.assert_allclose(grads[name], 4 * gradient, rtol=1e-5, atol=1e-6)


def test_a_frozen_target_of_byol_stays_where_it_began():
    byol = methods.byol(*PARTS, total_steps=3, decay=1.0)
    params, state = byol.init(jax.random.key(0), BATCH)
    start = state.target
    for _ in range(6):
        params = jax.tree.map(lambda p: p + 0.5, params)
        _, aux = byol.loss(params, state, BATCH, jax.random.key(1))
        state = aux.state
        assert aux.metrics["ema_decay"] == 1.0
    for name, p in start.items():
        np.testing.assert_allclose(state.target[name], p, atol=2e-6)
        assert np.abs(np.asarray(params[name] - p)).min() > 2


IDENTITY = Network(lambda rng, x: ({}, {}), lambda p, s, x, **_: (x, s))
"""The encoder has all layers, so that no BatchNorm comes near z."""


@functools.cache
def spread(stop_gradient, *, steps=400):
    """Std of normalised z times the root of D, and the loss, after training on digits.

    The net has BatchNorm in its hidden layers and the predictor, not on z.
    """
    method = methods.simsiam(
        networks.mlp(features=(128, 128), out=64),
        IDENTITY,
        networks.prediction_head(hidden=32, out=64),
        stop_gradient=stop_gradient,
    )
    _, metrics = on_digits(
        method,
        augment.digits(
            shift=1.0, rotate=0.0, shear=0.0, scale=(1.0, 1.0), brightness=0.3,
            noise=0.15, dropout=0.2,
        ),
        train.sgd(
            learning_rate=0.1, momentum=0.9, weight_decay=1e-4, total_steps=steps
        ),
        steps=steps,
        batch_size=256,
    )  # fmt: skip
    return float(metrics["z_std"][-1]), float(metrics["loss"][-1])


@pytest.mark.slow
def test_stop_gradient_keeps_the_embedding_spread():
    z_std, loss = spread(True)
    assert z_std >= 0.6
    assert loss > -0.9


@pytest.mark.slow
def test_without_stop_gradient_it_collapses():
    z_std, loss = spread(False)
    assert z_std <= 0.2
    assert loss < -0.95

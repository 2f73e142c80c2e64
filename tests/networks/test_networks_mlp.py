"""Perceptrons and heads against NumPy float64."""

import math

import jax
import numpy as np
import pytest
from reference import assert_close

from rl_jax import networks

X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
RNG = jax.random.key(0)
ACTIVATIONS = {
    "relu": lambda v: np.maximum(v, 0),
    "tanh": np.tanh,
    "silu": lambda v: v / (1 + np.exp(-v)),
    "gelu": np.vectorize(lambda v: v / 2 * (1 + math.erf(v / math.sqrt(2)))),
}


def linear(layer, x):
    layer = {name: np.asarray(value, np.float64) for name, value in layer.items()}
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def normal(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_mlp_is_the_formula(activation, batch_norm):
    network = networks.mlp(
        features=(6, 7), out=3, activation=activation, batch_norm=batch_norm
    )
    params, state = network.init(RNG, X)
    y, _ = network.apply(params, state, X, train=True)
    expected = X.astype(np.float64)
    for i in range(2):
        expected = linear(params[f"Dense_{i}"], expected)
        expected = normal(expected) if batch_norm else expected
        expected = ACTIVATIONS[activation](expected)
    assert_close(y, linear(params["Dense_2"], expected), tolerance=1e-5)
    assert ("bias" in params["Dense_0"]) is not batch_norm
    assert "bias" in params["Dense_2"]


def test_no_hidden_layer_is_a_linear_map():
    network = networks.mlp(features=(), out=4)
    params, state = network.init(RNG, X)
    assert state == {}
    y, _ = network.apply(params, state, X, train=True)
    assert_close(y, linear(params["Dense_0"], X), tolerance=1e-6)


def test_images_are_flattened():
    network = networks.mlp(features=(6,), out=3)
    images = np.random.default_rng(1).normal(size=(4, 3, 2, 5)).astype(np.float32)
    params, state = network.init(RNG, images)
    np.testing.assert_array_equal(
        network.apply(params, state, images, train=True)[0],
        network.apply(params, state, images.reshape(4, 30), train=True)[0],
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("final", [False, True])
def test_projection_head_is_the_formula(layers, batch_norm, final):
    head = networks.projection_head(
        hidden=6, out=3, layers=layers, batch_norm=batch_norm, final_batch_norm=final
    )
    params, state = head.init(RNG, X)
    z, _ = head.apply(params, state, X, train=True)
    expected = X.astype(np.float64)
    for i in range(layers):
        expected = linear(params[f"Dense_{i}"], expected)
        if i < layers - 1:
            expected = np.maximum(normal(expected) if batch_norm else expected, 0)
    assert_close(z, normal(expected) if final else expected, tolerance=1e-4)
    assert ("bias" in params[f"Dense_{layers - 1}"]) is not final
    learned = sum(name.startswith("BatchNorm") for name in params)
    assert learned == (layers - 1 if batch_norm else 0), "the final one has no scale"


def test_prediction_head_is_a_projection_head_of_two_layers():
    same = networks.projection_head(hidden=6, out=5)
    head = networks.prediction_head(hidden=6, out=5)
    params, state = head.init(RNG, X)
    np.testing.assert_array_equal(
        head.apply(params, state, X, train=True)[0],
        same.apply(params, state, X, train=True)[0],
    )


def test_the_default_heads_fit_each_other():
    z = networks.chain(p=networks.projection_head(), q=networks.prediction_head())
    params, state = jax.eval_shape(z.init, RNG, X)
    shape = params["p"]["Dense_1"]["kernel"].shape
    assert params["q"]["Dense_1"]["kernel"].shape[-1] == shape[-1]

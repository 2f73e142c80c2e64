"""The small convolutional network, layer by layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference.compiled import networks

from rl_jax.errors import UsageError

RNG = jax.random.key(0)


def convolve(x, kernel, stride):
    """3×3 windows around every stride-th pixel, in float64."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return np.einsum("bhwcij,ijco->bhwo", windows[:, ::stride, ::stride], kernel)


def test_convnet_is_the_formula():
    x = np.random.default_rng(0).normal(size=(4, 7, 8, 2)).astype(np.float32)
    network = networks.convnet(widths=(4, 5, 6))
    params, state = network.init(RNG, x)
    h, _ = network.apply(params, state, x, train=True)
    expected = x
    for i, stride in enumerate((1, 2, 2)):
        kernel = np.asarray(params[f"Conv_{i}"]["kernel"], np.float64)
        expected = convolve(expected, kernel, stride)
        mean, var = expected.mean((0, 1, 2)), expected.var((0, 1, 2))
        expected = np.maximum((expected - mean) / np.sqrt(var + 1e-5), 0)
    assert expected.shape == (4, 2, 2, 6)
    assert_close(h, expected.mean((1, 2)), tolerance=1e-4)


def test_the_default_fits_digits():
    digits = jnp.zeros((2, 8, 8, 1))
    network = networks.convnet()
    params, state = jax.eval_shape(network.init, RNG, digits)
    run = functools.partial(network.apply, train=True)
    h, _ = jax.eval_shape(run, params, state, digits)
    assert h.shape == (2, 256)


def test_images_need_four_axes():
    message = "convnet: expected images .B, H, W, C., got float32 .2, 64.; use an mlp"
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(networks.convnet().init, RNG, jnp.zeros((2, 64)))

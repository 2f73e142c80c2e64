"""A convolution over few positions is XLA's, value and gradients."""

import jax
import numpy as np
import pytest

from rl_jax.networks import convolution
from rl_jax.networks.convolution import convolve

LAYOUT = ("NHWC", "HWIO", "NHWC")


def operands(shape, kernel):
    rng = np.random.default_rng(0)
    return [rng.normal(size=s).astype(np.float32) for s in (shape, kernel)]


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "padding"),
    [
        ((2, 2, 2, 3), (3, 3, 3, 5), (1, 1), ((1, 1), (1, 1))),
        ((2, 7, 4, 2), (3, 3, 2, 4), (2, 2), ((1, 1), (1, 1))),
        ((1, 9, 2, 2), (5, 2, 2, 3), (3, 1), ((2, 0), (0, 1))),
    ],
)
def test_equals_lax(shape, kernel, strides, padding):
    x, w = operands(shape, kernel)

    def through(convolution):
        def value(x, w):
            y = convolution(x, w, strides, padding, dimension_numbers=LAYOUT)
            return (y * np.cos(np.arange(y.size)).reshape(y.shape)).sum(), y

        return jax.jit(jax.grad(value, (0, 1), has_aux=True))(x, w)

    found, expected = through(convolve), through(jax.lax.conv_general_dilated)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "products"),
    [
        ((1, 2, 4, 2), {}, True),
        ((1, 3, 3, 2), {}, False),
        ((1, 4, 4, 2), {"rhs_dilation": (2, 2)}, False),
    ],
)
def test_products_are_taken_of_few_positions_only(shape, options, products):
    x, w = operands(shape, (3, 3, 2, 4))
    padding = ((1, 1), (1, 1))
    assert convolution.POSITIONS == 8

    def of(x, w):
        return convolve(x, w, (1, 1), padding, dimension_numbers=LAYOUT, **options)

    text = str(jax.make_jaxpr(of)(x, w))
    assert ("conv_general_dilated" not in text) == products
    assert ("dot_general" in text) == products

"""Rows of unit length, and finite gradients of rows that have none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rl_jax import losses

DTYPES = ("float16", "bfloat16", "float32")


def rows(dtype):
    x = np.random.default_rng(0).normal(size=(6, 16))
    x[1], x[2], x[3] = 0, x[2] * 1e-5, x[3] * 1e3
    return jnp.asarray(x, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_length_one_in_float32(dtype):
    z = losses.normalize(rows(dtype))
    assert z.dtype == jnp.float32
    assert not np.any(z[1])
    np.testing.assert_allclose(jnp.linalg.norm(z[3:], axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upstream", [1.0, 60.0])
def test_a_zero_row_has_a_finite_gradient(dtype, upstream):
    x = rows(dtype)
    grad = jax.grad(lambda x: upstream * losses.normalize(x).sum())(x)
    assert grad.dtype == x.dtype
    assert np.isfinite(np.asarray(grad, np.float32)).all()
    assert np.all(grad[1] > 0)


def test_a_loss_of_float16_has_a_finite_gradient():
    a, b = jnp.zeros((4, 8), jnp.float16), rows("float16")[:4, :8]
    grads = jax.grad(lambda x: losses.nt_xent(*x, temperature=0.1))((a, b))
    for grad in grads:
        assert np.isfinite(np.asarray(grad, np.float32)).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_wide_dtypes_end_at_1e_12(dtype):
    """Bit for bit: values and gradients."""

    def plain(x):
        x = x.astype(jnp.float32)
        return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-12))

    x, weight = rows(dtype), jnp.arange(96.0).reshape(6, 16)
    (value, pull), (expected, pull_plain) = (
        jax.vjp(f, x) for f in (losses.normalize, plain)
    )
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(pull(weight)[0], pull_plain(weight)[0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_row_too_long_for_float32_is_nan(dtype):
    x = jnp.asarray([[3.0, 4.0], [1e20, 0.0]], dtype)
    y = losses.normalize(x)
    np.testing.assert_allclose(y[0], [0.6, 0.8], rtol=1e-6)
    assert np.isnan(y[1]).all()
    assert np.isnan(losses.nt_xent(x, x, temperature=0.5))

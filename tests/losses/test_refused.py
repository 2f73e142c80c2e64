"""What the losses of two [B, D] arrays refuse, in one line and before compilation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.machine import make_mesh

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

# What each calls the number that must be positive, and whatever else it needs.
SHARPNESS = {
    "nt_xent": "temperature",
    "info_nce": "temperature",
    "clip": "logit_scale",
    "sigmoid": "logit_scale",
}
every_loss = pytest.mark.parametrize("name", SHARPNESS)


def loss(name, value=5.0):
    more = {"bias": 0.0} if name == "sigmoid" else {}
    return functools.partial(getattr(losses, name), **{SHARPNESS[name]: value} | more)


def refusal(name, function, *sides):
    with pytest.raises(UsageError, match=f"{name}: ") as error:
        jax.eval_shape(function, *sides)
    assert "\n" not in str(error.value)
    return str(error.value)


def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


@every_loss
@pytest.mark.parametrize("value", [0, 0.0, -0.1, np.float32(-1), np.nan, np.inf])
def test_temperatures_and_scales_that_are_not_positive(name, value):
    said = refusal(name, loss(name, value), array(4, 3), array(4, 3))
    assert f"{SHARPNESS[name]} must be > 0, got {value}" in said


@every_loss
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((4, 3), (4, 2)),
        ((4, 3), (5, 3)),
        ((4,), (4,)),
        ((4, 3, 1), (4, 3, 1)),
        ((0, 3), (0, 3)),
        ((0, 3), (4, 3)),
    ],
)
def test_shapes_that_do_not_match(name, one, two):
    said = refusal(name, loss(name), array(*one), array(*two))
    assert str(one) in said
    assert str(two) in said


@every_loss
@pytest.mark.parametrize("which", [0, 1])
def test_embeddings_that_are_not_floating(name, which):
    sides = [array(4, 3), array(4, 3)]
    sides[which] = array(4, 3, dtype=jnp.int32)
    said = refusal(name, loss(name), *sides)
    assert "int32" in said
    assert "float32" in said


@every_loss
def test_rows_that_do_not_divide_among_the_devices(name):
    refused = pytest.raises(UsageError, match="not divisible by the 8 devices")
    with jax.set_mesh(make_mesh(range(8))), refused as error:
        jax.eval_shape(loss(name), array(37, 3), array(37, 3))
    rows = 74 if name == "nt_xent" else 37
    assert f"{rows} rows" in str(error.value)

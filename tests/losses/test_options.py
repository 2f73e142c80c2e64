"""Every loss over pairs takes a precision and an implementation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

from rl_jax import losses
from rl_jax.errors import UsageError

pytestmark = pytest.mark.core

LABEL = np.arange(24, dtype=np.int32) % 5 - 1

# Each of two [B, D] arrays, whatever the loss makes of them.
LOSSES = {
    "nt_xent": functools.partial(losses.nt_xent, temperature=0.2),
    "info_nce": functools.partial(losses.info_nce, temperature=0.2),
    "clip": lambda a, b, **options: losses.clip(a, b, logit_scale=5.0, **options),
    "sigmoid": lambda a, b, **options: losses.sigmoid(
        a, b, logit_scale=5.0, bias=-2.0, **options
    ),
    "sup_con": lambda a, b, **options: losses.sup_con(
        a + b, LABEL[: len(a)], temperature=0.2, **options
    ),
    "uniformity": lambda a, b, **options: losses.uniformity(a + b, **options),
}


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def views():
    a = normals(0, 24, 16)
    return a, a + normals(1, 24, 16)


@functools.cache
def evaluate(**options):
    """Every loss and its gradient to the first view, in one compilation."""

    def run(a, b):
        return {
            name: jax.value_and_grad(functools.partial(loss, **options))(a, b)
            for name, loss in LOSSES.items()
        }

    return jax.jit(run)(*views())


@pytest.mark.parametrize(
    "options",
    [
        {"implementation": "dense"},
        {"implementation": "xla"},
        {"precision": "highest"},
        {"precision": "highest", "implementation": "dense"},
    ],
    ids=str,
)
def test_options_that_change_nothing(options):
    assert_close(evaluate(**options), evaluate(), tolerance=5e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 5e-2), ("bf16x3", 2e-4)])
def test_precision_bounds_the_error(precision, tolerance):
    actual, target = evaluate(precision=precision), evaluate(precision="highest")
    for name in LOSSES:
        (value, gradient), (want, exact) = actual[name], target[name]
        assert_close({name: value}, {name: want}, tolerance=tolerance, floor=1.0)
        assert_close({name: gradient}, {name: exact}, tolerance=tolerance)


def test_precision_reaches_the_products():
    # Ordinary rows do not come through the rounding unchanged.
    target = evaluate(precision="highest")
    for name in LOSSES:
        coarse, fine = (
            np.max(np.abs(evaluate(precision=p)[name][1] - target[name][1]))
            for p in ("bf16", "bf16x3")
        )
        assert coarse > 1e-4 * np.max(np.abs(target[name][1])), name
        assert fine < coarse / 10, name


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("option", ["precision", "implementation"])
def test_unknown_names_are_refused(name, option):
    with pytest.raises(UsageError, match=f"{option} must be .*tf64") as error:
        jax.eval_shape(functools.partial(LOSSES[name], **{option: "tf64"}), *views())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", [losses.nt_xent, losses.info_nce])
def test_a_temperature_is_one_number(loss):
    x = jnp.eye(4)
    with pytest.raises(
        UsageError, match=r"temperature must be a scalar, got shape \(1,"
    ):
        loss(x, x, temperature=jnp.array([0.5]))
    f = jax.jit(lambda s: losses.sigmoid(x, x, logit_scale=s, bias=-3.0))
    with pytest.raises(UsageError, match="logit_scale must be a scalar"):
        f(jnp.ones(4))


def test_alignment_of_what_is_no_number_is_none():
    x = jnp.eye(4).at[1].set(jnp.nan)
    for alpha in (1.0, 2.0):
        assert jnp.isnan(losses.alignment(x, jnp.eye(4), alpha=alpha))

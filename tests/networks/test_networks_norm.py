"""BatchNorm against NumPy float64, on one device and shared out over eight."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from reference import assert_close

from rl_jax import networks
from rl_jax.errors import UsageError

SHAPES = {"rank 2": (8, 3), "rank 4": (8, 2, 2, 3)}
SCALE, BIAS = np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 3.0])
PARAMS = {"scale": jnp.float32(SCALE), "bias": jnp.float32(BIAS)}


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype(np.float32)


def fresh(channels=3):
    return {"batch_stats": {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}}


def reference(x, stats, *, split=1, momentum=0.9, epsilon=1e-5):
    """Group after group, in float64."""
    x = np.asarray(x, np.float64)
    means, variances, y = [], [], []
    for group in np.split(x, split):
        rows = group.reshape(-1, x.shape[-1])
        mean, var = rows.mean(0), rows.var(0)
        y.append((group - mean) / np.sqrt(var + epsilon) * SCALE + BIAS)
        means.append(mean)
        variances.append(rows.var(0, ddof=1))
    old = {name: np.asarray(value, np.float64) for name, value in stats.items()}
    new = {"mean": np.mean(means, 0), "var": np.mean(variances, 0)}
    stats = {k: momentum * old[k] + (1 - momentum) * new[k] for k in old}
    return np.concatenate(y), {"batch_stats": stats}


@pytest.mark.parametrize("split", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_training_is_the_formula(shape, split):
    network = networks.from_linen(networks.BatchNorm(split=split))
    state = fresh()
    for seed in range(2):
        x = draw(shape, seed)
        y_expected, expected = reference(x, state["batch_stats"], split=split)
        y, state = network.apply(PARAMS, state, x, train=True)
        assert_close(y, y_expected, tolerance=1e-5)
        assert_close(state, expected, tolerance=1e-6)


def test_momentum_and_epsilon():
    network = networks.from_linen(networks.BatchNorm(momentum=0.5, epsilon=0.3))
    x, state = draw((8, 3)), fresh()
    expected = reference(x, state["batch_stats"], momentum=0.5, epsilon=0.3)
    assert_close(network.apply(PARAMS, state, x, train=True), expected, tolerance=1e-5)


def test_evaluation_uses_the_running_averages():
    network = networks.from_linen(networks.BatchNorm(split=3))
    mean, var = np.array([1.0, 2.0, 3.0]), np.array([4.0, 1.0, 0.25])
    state = {"batch_stats": {"mean": jnp.float32(mean), "var": jnp.float32(var)}}
    x = draw((7, 2, 2, 3))
    y, _ = network.apply(PARAMS, state, x, train=False)
    assert_close(y, (x - mean) / np.sqrt(var + 1e-5) * SCALE + BIAS, tolerance=1e-6)
    np.testing.assert_allclose(
        network.apply(PARAMS, state, x[:1], train=False)[0], y[:1], rtol=1e-6
    )


def test_without_scale_and_bias():
    network = networks.from_linen(networks.BatchNorm(affine=False))
    x = draw((8, 3))
    params, state = network.init(jax.random.key(0), x)
    assert params == {}
    chex.assert_trees_all_equal(state, fresh())
    y, _ = network.apply(params, state, x, train=True)
    assert_close(np.std(y, 0), np.ones(3), tolerance=1e-5)
    assert_close(np.mean(y, 0), np.zeros(3), tolerance=1e-6, floor=1.0)


def test_bfloat16_keeps_float32_statistics():
    network = networks.from_linen(networks.BatchNorm(split=2))
    x = jnp.asarray(draw((64, 4, 4, 3)), jnp.bfloat16)
    y_expected, expected = reference(x, fresh()["batch_stats"], split=2)
    y, state = network.apply(PARAMS, fresh(), x, train=True)
    assert y.dtype == jnp.bfloat16
    chex.assert_trees_all_equal_dtypes(state, fresh())
    assert_close(state, expected, tolerance=1e-6)
    # Half a unit in the last of 8 bits, so nothing but the result was rounded.
    assert_close(y, y_expected, tolerance=2**-8)


def test_a_large_mean_does_not_swallow_the_variance():
    network = networks.from_linen(networks.BatchNorm())
    x = 3000 + draw((256, 3))
    _, state = network.apply(PARAMS, fresh(), x, train=True)
    assert_close(state, reference(x, fresh()["batch_stats"])[1], tolerance=1e-5)


def test_first_and_second_derivatives_are_those_of_the_formula():
    x = jnp.asarray(draw((5, 3)))
    weights = jnp.asarray(draw((5, 3), seed=1))
    norm = networks.norm.BatchNorm()
    variables = {"params": PARAMS, **fresh()}

    def ours(x):
        y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.tanh(y) * weights)

    def formula(x):
        mean, var = (f(x, axis=0, keepdims=True) for f in (jnp.mean, jnp.var))
        y = (x - mean) / jnp.sqrt(var + 1e-5)
        return jnp.sum(jnp.tanh(y * SCALE[None] + BIAS[None]) * weights)

    for derivative in (jax.grad, jax.hessian):
        assert_close(derivative(ours)(x), derivative(formula)(x), tolerance=1e-5)


def test_a_constant_channel_has_a_finite_gradient():
    network = networks.from_linen(networks.BatchNorm())

    def loss(params, x):
        return jnp.sum(network.apply(params, fresh(), x, train=True)[0] ** 3)

    gradients = jax.grad(loss, (0, 1))(PARAMS, jnp.ones((4, 3)))
    chex.assert_tree_all_finite(gradients)


@pytest.mark.core
@pytest.mark.parametrize("split", [1, 2, 8])
def test_statistics_do_not_depend_on_the_devices(split):
    network = networks.from_linen(networks.BatchNorm(split=split))
    x = draw((32, 2, 2, 3)) + np.arange(32.0, dtype=np.float32)[:, None, None, None]

    @jax.jit
    def step(params, x):
        def loss(params, x):
            y, state = network.apply(params, fresh(), x, train=True)
            return jnp.sum(jnp.sin(y)), (y, state)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    shared = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    one, eight = step(PARAMS, x), step(PARAMS, shared)
    assert_close(eight, jax.device_get(one), tolerance=1e-5)
    y, state = eight[0][1]
    assert_close(
        (y, state), reference(x, fresh()["batch_stats"], split=split), tolerance=1e-5
    )


@pytest.mark.parametrize(
    ("rows", "split", "message"),
    [
        (6, 4, "split=4 does not divide the batch of 6"),
        (4, 8, "split=8 does not divide the batch of 4"),
        (4, 4, "4 rows in 4 groups leave one value"),
        (1, 1, "1 rows in 1 groups leave one value"),
    ],
)
def test_batches_it_refuses(rows, split, message):
    network = networks.from_linen(networks.BatchNorm(split=split))
    train = functools.partial(network.apply, PARAMS, fresh(), train=True)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(train, jnp.zeros((rows, 3)))


def test_one_row_is_enough_where_positions_are_many():
    network = networks.from_linen(networks.BatchNorm())
    x = draw((1, 4, 4, 3))
    expected = reference(x, fresh()["batch_stats"])
    assert_close(
        network.apply(PARAMS, fresh(), x, train=True), expected, tolerance=1e-5
    )

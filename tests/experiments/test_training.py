"""The loop of gradient steps: against a loop in NumPy, and what it records."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import adam, minimise

TARGET = np.asarray([1.0, -2.0, 0.5], np.float32)


def loss(params, rng):
    return jnp.sum((params["x"] - TARGET) ** 2) + 0.0 * jax.random.normal(rng)


def descend(steps, rate):
    """Plain gradient descent; x and the loss before every step."""
    x, points, values = np.zeros(3), [], []
    for _ in range(steps):
        points.append(x.copy())
        values.append(np.sum((x - TARGET) ** 2))
        x = x - rate * 2 * (x - TARGET)
    return x, np.asarray(points), np.asarray(values)


def run(**options):
    start = {"x": jnp.zeros(3)}
    return jax.jit(
        lambda rng: minimise(
            loss, start, rng, steps=12, optimizer=optax.sgd(0.1), **options
        )
    )(jax.random.key(0))


@pytest.mark.parametrize("every", [1, 3, 12])
def test_it_is_gradient_descent_and_records_the_loss(every):
    params, values = run(every=every)
    x, _, expected = descend(12, 0.1)
    np.testing.assert_allclose(params["x"], x, rtol=1e-5)
    np.testing.assert_allclose(values, expected[::every], rtol=1e-5)


def test_records_are_of_the_parameters_before_the_step():
    _, points = run(every=4, record=lambda params: params["x"])
    np.testing.assert_allclose(points, descend(12, 0.1)[1][::4], rtol=1e-5, atol=1e-7)


def test_every_must_divide_steps():
    with pytest.raises(ValueError, match="every=5 does not divide steps=12"):
        run(every=5)


def test_each_step_has_its_own_randomness_and_each_run_its_own():
    def noisy(params, rng):
        return jax.random.normal(rng) + 0.0 * params

    def train(rng):
        return minimise(noisy, jnp.zeros(()), rng, steps=8, optimizer=optax.sgd(0.1))[1]

    drawn = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 3))
    assert drawn.shape == (3, 8)
    assert len(np.unique(drawn)) == 24


def test_a_run_under_vmap_is_the_run_alone():
    def train(start, rng):
        return minimise(
            lambda x, rng: jnp.sum((x - TARGET) ** 2),
            start, rng, steps=10, optimizer=adam(0.1, steps=10), every=5,
        )  # fmt: skip

    starts = jax.random.normal(jax.random.key(1), (3, 3))
    rngs = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(train))(starts, rngs)
    alone = jax.jit(train)(starts[1], rngs[1])
    for several, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(several[1], one, rtol=1e-5)


def test_adam_ends_at_rate_zero():
    optimizer = adam(0.3, steps=50)
    state, x = optimizer.init(jnp.ones(())), jnp.zeros(())
    moved = []
    for _ in range(52):
        update, state = optimizer.update(jnp.ones(()), state, x)
        moved.append(abs(float(update)))
    assert moved[0] == pytest.approx(0.3, rel=1e-3)
    assert moved[25] == pytest.approx(0.15, rel=1e-3)
    assert moved[50] == pytest.approx(0.0, abs=1e-7)

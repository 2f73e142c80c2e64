"""The recurrent network against a loop in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

from rl_jax import networks
from rl_jax.errors import UsageError

X = np.random.default_rng(0).normal(size=(3, 7, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    """With biases that are not 0."""
    params, state = networks.gru(hidden=5).init(jax.random.key(0), X)
    return jax.tree.map(lambda p: p + 0.1, params), state


def apply(trained, x, train=False):
    return networks.gru(hidden=5).apply(*trained, x, train=train)[0]


def logistic(x):
    return 1 / (1 + np.exp(-x))


def test_equals_the_loop(trained):
    (cell,) = jax.tree.map(lambda p: np.asarray(p, np.float64), trained[0]).values()
    assert trained[1] == {}
    h, expected = np.zeros((3, 5)), []
    for t in range(X.shape[1]):
        x = X[:, t].astype(np.float64)

        def of_input(gate, x=x):
            return x @ cell[f"i{gate}"]["kernel"] + cell[f"i{gate}"]["bias"]

        def of_state(gate, h=h):
            return h @ cell[f"h{gate}"]["kernel"]

        reset = logistic(of_input("r") + of_state("r"))
        update = logistic(of_input("z") + of_state("z"))
        new = np.tanh(of_input("n") + reset * (of_state("n") + cell["hn"]["bias"]))
        h = (1 - update) * new + update * h
        expected.append(h)
    y = apply(trained, X)
    assert (y.shape, y.dtype) == ((3, 7, 5), jnp.float32)
    assert_close(y, np.stack(expected, 1), tolerance=1e-5)
    np.testing.assert_array_equal(apply(trained, X, train=True), y)


def test_no_step_sees_the_future(trained):
    later = X.copy()
    later[:, 4:] += 1.0
    before, after = apply(trained, X), apply(trained, later)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.all(np.any(before[:, 4:] != after[:, 4:], axis=2))


@pytest.mark.slow
def test_every_step_sees_the_past(trained):
    slopes = jax.jacobian(lambda x: apply(trained, x[None])[0, -1])(X[0])
    assert np.all(np.any(slopes != 0, axis=(0, 2)))


def test_every_parameter_gets_gradient(trained):
    def loss(params):
        return jnp.sum(apply((params, trained[1]), X) ** 2)

    for leaf in jax.tree.leaves(jax.grad(loss)(trained[0])):
        assert np.any(leaf)


def test_refused():
    with pytest.raises(UsageError, match="gru: hidden must be at least 1, got 0"):
        networks.gru(hidden=0)

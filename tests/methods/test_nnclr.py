"""NNCLR against the paper's loop, and whose neighbour may be what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import losses as reference
from reference.machine import largest_array
from reference.networks import linear

from rl_jax import methods, networks
from rl_jax.errors import UsageError
from rl_jax.memory import Queue

B, D = 4, 3
PARTS = linear(5, 4, 1), linear(4, D, 2), linear(D, D, 3)


def batch(seed, size=B):
    views = jax.random.normal(jax.random.key(seed), (size, 2, 5))
    return {"views": views, "image": views[:, 0]}


def as64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def embed(params, x):
    return reference.normalize(
        np.asarray(x, np.float64) @ params["encoder"] @ params["projector"]
    )


def raw(params, x):
    return np.asarray(x, np.float64) @ params["encoder"] @ params["projector"]


def neighbours(z, queue):
    """The paper's `NN(f, Q)`; z where there is none."""
    return queue[np.argmax(z @ queue.T, 1)] if len(queue) else z


def cross_entropy(near, p, tau):
    """The paper's `L(nn, p)`: softmax of logits [n, n], labels on the diagonal."""
    logits = near @ reference.normalize(p).T / tau
    own = np.diagonal(logits)
    return np.mean(np.log(np.exp(logits).sum(1)) - own)


def test_equals_the_paper():
    """Neighbours of both views, both losses, then z of the first view is enqueued."""
    tau, size = 0.3, 10
    method = methods.nnclr(*PARTS, temperature=tau, queue_size=size)
    params, state = method.init(jax.random.key(0), batch(0))
    loss = jax.jit(method.loss)
    queue = np.zeros((0, D))
    for t in range(6):
        value, aux = loss(params, state, batch(t), jax.random.key(t))
        fixed = as64(params)
        views = np.moveaxis(np.asarray(batch(t)["views"]), 1, 0)
        z = [embed(fixed, x) for x in views]
        p = [raw(fixed, x) @ fixed["predictor"] for x in views]
        near = [neighbours(v, queue) for v in z]
        expected = sum(cross_entropy(near[i], p[1 - i], tau) / 2 for i in (0, 1))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        cosine = np.mean([np.sum(a * b, 1) for a, b in zip(z, near, strict=True)])
        np.testing.assert_allclose(
            aux.metrics["neighbour_cosine"], cosine, rtol=1e-5, atol=1e-6
        )
        queue = np.concatenate([queue, z[0]])[-size:]
        assert int(aux.metrics["queue_valid"]) == len(queue)
        found = np.asarray(aux.state.queue.rows)[: len(queue)]
        np.testing.assert_allclose(
            np.sort(found, 0), np.sort(queue, 0), rtol=1e-4, atol=1e-5
        )
        state = aux.state
        params = jax.tree.map(lambda p, t=t: p + 0.1 * jnp.cos(p + t), params)


def test_rows_not_yet_filled_are_no_neighbours():
    """Though their cosine, 0, is the larger one."""
    method = methods.nnclr(*PARTS, queue_size=8)
    params, state = method.init(jax.random.key(0), batch(0))
    z = embed(as64(params), batch(1)["views"].reshape(-1, 5))
    far = -reference.normalize(z.mean(0, keepdims=True))
    assert np.mean(z @ far.T < 0) > 0.5
    rows = jnp.zeros((8, D)).at[0].set(far[0])
    state = state._replace(queue=Queue(rows, jnp.int32(1), jnp.int32(1)))
    _, aux = method.loss(params, state, batch(1), None)
    np.testing.assert_allclose(
        aux.metrics["neighbour_cosine"], np.mean(z @ far.T), rtol=1e-5
    )


@pytest.mark.parametrize("steps", [0, 2])
def test_positives_carry_no_gradient(steps):
    """The gradient equals the one with them as constants; at the first step too."""
    method = methods.nnclr(*PARTS, queue_size=8, temperature=0.5)
    params, state = method.init(jax.random.key(0), batch(0))
    for t in range(steps):
        state = method.loss(params, state, batch(t), None)[1].state
    now = batch(9)
    grads = jax.grad(lambda p: method.loss(p, state, now, None)[0])(params)
    fixed = as64(params)
    queue = np.asarray(state.queue.rows, np.float64)[: int(state.queue.valid)]
    slope = 0.0
    for i in (0, 1):
        x, y = (np.asarray(now["views"][:, j], np.float64) for j in (i, 1 - i))
        near = neighbours(embed(fixed, x), queue)
        z = raw(fixed, y)
        _, (_, dp, *_) = reference.info_nce(
            near, z @ fixed["predictor"], temperature=0.5
        )
        h = y @ fixed["encoder"]
        slope = slope + h.T @ (dp @ fixed["predictor"].T) / 2
    np.testing.assert_allclose(grads["projector"], slope, rtol=1e-4, atol=1e-6)


def test_no_matrix_of_batch_and_support_set():
    size = 2**16
    method = methods.nnclr(*PARTS, queue_size=size)
    params, state = jax.eval_shape(method.init, jax.random.key(0), batch(0))
    step = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    rng = jax.random.key(0)
    program = step.lower(params, state, batch(0), rng).compile()
    assert largest_array(program) < 2 * B * size


def test_support_sets_smaller_than_the_batch_are_refused():
    method = methods.nnclr(*PARTS, queue_size=3)
    params, state = jax.eval_shape(method.init, jax.random.key(0), batch(0))
    with pytest.raises(UsageError, match="4 rows do not fit a queue of 3; .*queue_siz"):
        jax.eval_shape(method.loss, params, state, batch(0), jax.random.key(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be > 0 and finite, got 0.0"),
        ({"queue_size": 0}, "queue_size must be at least 1, got 0"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"nnclr: {message}"):
        methods.nnclr(*PARTS, **options)


def test_the_predictor_keeps_its_statistics():
    predictor = networks.prediction_head(hidden=4, out=D)
    method = methods.nnclr(*PARTS[:2], predictor, queue_size=8)
    params, state = method.init(jax.random.key(0), batch(0))
    _, aux = method.loss(params, state, batch(0), jax.random.key(0))
    before, after = (jax.tree.leaves(x.online["predictor"]) for x in (state, aux.state))
    assert before
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_products_are_rounded_where_that_is_asked_for():
    values = []
    for precision in (None, "bf16"):
        method = methods.nnclr(*PARTS, queue_size=8, precision=precision)
        params, state = method.init(jax.random.key(0), batch(0))
        values.append(float(method.loss(params, state, batch(0), None)[0]))
    assert 1e-6 < abs(values[0] - values[1]) < 0.1

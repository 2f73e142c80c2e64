"""SwAV against the paper's formula, and the clusters it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assignment as reference
from reference.compiled import methods
from training import on_digits

from rl_jax import augment, data, networks, train
from rl_jax.errors import UsageError
from rl_jax.types import Network


def linear(d_in, d_out, seed):
    """A linear network without state, so that a step can be written out by hand."""

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        return x @ params, state

    kernel = 0.5 * jax.random.normal(jax.random.key(seed), (d_in, d_out))
    return Network(lambda rng, x: (kernel, {}), apply)


PARTS = linear(5, 4, 1), linear(4, 3, 2)
VIEWS, CROPS = (
    jax.random.normal(jax.random.key(i), (6, v, 5)) for i, v in ((0, 2), (1, 3))
)
BATCH = {"views": VIEWS, "image": VIEWS[:, 0]}


@pytest.mark.parametrize("local", [False, True])
def test_equals_the_paper(local):
    method = methods.swav(*PARTS, prototypes=7, temperature=0.3, epsilon=0.2)
    batch = BATCH | ({"local_views": CROPS} if local else {})
    params, state = method.init(jax.random.key(0), batch)
    (value, aux), grads = jax.jit(jax.value_and_grad(method.loss, has_aux=True))(
        params, state, batch, jax.random.key(1)
    )
    x = np.concatenate([VIEWS, CROPS], 1) if local else np.asarray(VIEWS)
    f, g = (np.asarray(params[name], np.float64) for name in ("encoder", "projector"))
    z = x.astype(np.float64) @ f @ g
    prototypes = np.asarray(params["prototypes"], np.float64)
    scores = reference.scores(z, prototypes)
    options = {"epsilon": 0.2, "iterations": 3}
    q = [reference.sinkhorn(scores[:, v], **options) for v in range(2)]
    q = np.stack(q, 1)
    np.testing.assert_allclose(value, reference.swapped(q, scores / 0.3), rtol=1e-5)
    assert aux.features["z"].shape == (6, 2, 3)

    # The gradient is that of the predictions alone: assignments are constants.
    def predicted(w):
        return reference.swapped(q, reference.scores(z, w) / 0.3)

    step = 1e-6
    for index in [(0, 0), (3, 2), (6, 1)]:
        nudge = np.zeros_like(prototypes)
        nudge[index] = step
        slope = (predicted(prototypes + nudge) - predicted(prototypes - nudge)) / (
            2 * step
        )
        np.testing.assert_allclose(
            grads["prototypes"][index], slope, rtol=1e-3, atol=1e-5
        )


def test_a_full_queue_is_assigned_with_the_batch():
    """Filled from step 1 on, with two batches: step 3 is the first that has it."""
    method = methods.swav(
        *PARTS, prototypes=7, epsilon=0.2, queue_size=12, queue_from=1
    )
    params, state = method.init(jax.random.key(0), BATCH)
    step = jax.jit(method.loss)
    f, g = (np.asarray(params[name], np.float64) for name in ("encoder", "projector"))
    prototypes = np.asarray(params["prototypes"], np.float64)
    past: list[np.ndarray] = []
    for t in range(5):
        views = jax.random.normal(jax.random.key(t), (6, 2, 5))
        batch = {"views": views, "image": views[:, 0]}
        value, aux = step(params, state, batch, jax.random.key(1))
        scores = reference.scores(np.asarray(views, np.float64) @ f @ g, prototypes)
        full = t >= 3
        rows = np.concatenate([*past[-2:], scores]) if full else scores
        options = {"epsilon": 0.2, "iterations": 3}
        q = [reference.sinkhorn(rows[:, v], **options)[-6:] for v in range(2)]
        wanted = reference.swapped(np.stack(q, 1), scores / 0.1)
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        alone = [reference.sinkhorn(scores[:, v], **options) for v in range(2)]
        plain = reference.swapped(np.stack(alone, 1), scores / 0.1)
        assert (abs(wanted - plain) > 1e-3) == full
        past += [scores] if t >= 1 else []
        assert aux.metrics["queue_valid"] == min(6 * t, 12)
        state = aux.state


def test_a_queue_smaller_than_the_batch_is_refused():
    method = methods.swav(*PARTS, prototypes=7, queue_size=5)
    message = "swav: queue_size=5 is less than a batch of 6; make it larger, or 0"
    with pytest.raises(UsageError, match=message):
        method.init(jax.random.key(0), BATCH)


def test_frozen_prototypes_do_not_learn_yet():
    method = methods.swav(*PARTS, prototypes=7, frozen_steps=1)
    params, state = method.init(jax.random.key(0), BATCH)
    first, aux = jax.grad(method.loss, has_aux=True)(params, state, BATCH, None)
    then, _ = jax.grad(method.loss, has_aux=True)(params, aux.state, BATCH, None)
    assert not np.any(first["prototypes"])
    assert np.any(then["prototypes"])
    assert np.any(first["projector"])


def purity(method, params, state):
    """Share of digits that are of the commonest class of their prototype."""
    source = data.digits()
    assert source.images is not None
    assert source.labels is not None
    image = augment.digits().clean(source.images)
    z = jax.jit(method.encode)(params, state, {"image": image})["z"]
    cluster = np.argmax(reference.scores(z, params["prototypes"]), 1)
    counts = np.zeros((len(params["prototypes"]), 10))
    np.add.at(counts, (cluster, source.labels), 1)
    return counts.max(1).sum() / source.size


@pytest.mark.slow
def test_clusters_are_all_used_and_follow_the_classes():
    method = methods.swav(
        networks.mlp(features=(128,), out=64),
        networks.projection_head(hidden=64, out=32, batch_norm=False),
        prototypes=32,
    )
    options = {"steps": 200, "batch_size": 128}
    pieces = (
        augment.digits(rotate=15.0, shear=10.0),
        train.adamw(learning_rate=2e-3, total_steps=200),
    )
    ts, metrics = on_digits(method, *pieces, **options)
    assert metrics["usage_entropy"][-1] > 0.95
    assert metrics["target_entropy"][-1] < 0.85
    batch = {"views": jnp.zeros((128, 2, 8, 8, 1))}
    untrained = purity(method, *method.init(jax.random.key(0), batch))
    trained = purity(method, ts.params, ts.state)
    assert trained > untrained + 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": 1}, "prototypes must be at least 2, got 1"),
        ({"temperature": 0.0}, "temperature must be > 0 and finite, got 0.0"),
        ({"epsilon": -1.0}, "epsilon must be > 0 and finite, got -1.0"),
        ({"sinkhorn_iterations": 0}, "sinkhorn_iterations must be at least 1, got 0"),
        ({"frozen_steps": -1}, "frozen_steps must be at least 0, got -1"),
        ({"queue_size": -1}, "queue_size must be at least 0, got -1"),
        ({"queue_from": -1}, "queue_from must be at least 0, got -1"),
        ({"queue_size": 2.5}, "queue_size must be a whole number, got 2.5"),
        ({"queue_size": True}, "queue_size must be a whole number, got True"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"swav: {message}"):
        methods.swav(*PARTS, **options)

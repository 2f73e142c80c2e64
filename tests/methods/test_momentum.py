"""The moving average: whose batch statistics, its decay in steps, never a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import augment, methods, networks, train
from rl_jax.methods import momentum

B, DECAY, TOTAL = 8, 0.5, 4


def nets(predictor=False, **options):
    encoder = networks.mlp(features=(6,), out=4, **options)
    heads = [networks.projection_head(hidden=6, out=3, **options)]
    if predictor:
        heads.append(networks.prediction_head(hidden=6, out=3, **options))
    return encoder, *heads


def make(name, *, statistics=None, decay=DECAY, **options):
    more = {} if statistics is None else {"target_statistics": statistics}
    if name == "moco":
        more |= {"queue_size": 20, "temperature": 0.5}
    else:
        more["total_steps"] = TOTAL
    if name == "dino":
        more["prototypes"] = 7
    parts = nets(name in ("byol", "moco_v3"), **options)
    return getattr(methods, name)(*parts, decay=decay, **more)


def batch(seed):
    views = 1 + jax.random.normal(jax.random.key(seed), (B, 2, 5))
    return {"views": views, "image": views[:, 0]}


def walk(method, steps):
    """Parameters, the state before, and what the loss returns, moved in between."""
    params, state = method.init(jax.random.key(0), batch(0))
    loss = jax.jit(method.loss)
    for t in range(steps):
        value, aux = loss(params, state, batch(t), None)
        yield params, state, value, aux
        state = aux.state
        params = jax.tree.map(lambda p, t=t: p + 0.1 * jnp.cos(p + t), params)


def schedule(t):
    return 1 - (1 - DECAY) * (np.cos(np.pi * min(t, TOTAL) / TOTAL) + 1) / 2


def decay_at(name, t):
    """Of the move at the start of step t: BYOL's authors make it after step t − 1."""
    if name == "moco":
        return DECAY
    return schedule(t if name == "moco_v3" else max(t - 1, 0))


MOVING = ["moco", "byol", "moco_v3", "dino"]


@pytest.mark.parametrize("name", MOVING)
def test_own_statistics_come_from_the_targets_own_batches(name):
    """The first BatchNorm of the encoder: the loop of its running averages."""
    mean, var = np.zeros(6), np.ones(6)
    for t, (_, state, _, aux) in enumerate(walk(make(name, statistics="own"), 3)):
        kernel = aux.state.target["encoder"]["Dense_0"]["kernel"]
        views = np.asarray(batch(t)["views"], np.float64)
        x = views[:, 1] if name == "moco" else views.reshape(2 * B, -1)
        a = x @ np.asarray(kernel, np.float64)
        mean = 0.9 * mean + 0.1 * a.mean(0)
        var = 0.9 * var + 0.1 * a.var(0, ddof=1)
        found = aux.state.target_state["encoder"]["batch_stats"]["BatchNorm_0"]
        np.testing.assert_allclose(found["mean"], mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["var"], var, rtol=1e-4, atol=1e-6)
        assert shapes(aux.state.target_state) == shapes(state.target_state)


@pytest.mark.parametrize("name", MOVING)
def test_average_statistics_follow_the_networks(name):
    """Every BatchNorm, by the loop of the parameters: m·r' + (1 − m)·r."""
    target = None
    for t, (_, state, _, aux) in enumerate(walk(make(name, statistics="average"), 4)):
        # EMAN's MoCo moves after the queries' pass, its BYOL after the step.
        online = (state if name in ("byol", "dino") else aux.state).online
        online = {k: online[k] for k in ("encoder", "projector")}
        target = as64(state.target_state) if target is None else target
        m = decay_at(name, t)
        target = jax.tree.map(
            lambda r, s, m=m: m * r + (1 - m) * s, target, as64(online)
        )
        assert shapes(aux.state.target_state) == shapes(online)
        for found, r in zip(
            jax.tree.leaves(aux.state.target_state),
            jax.tree.leaves(target),
            strict=True,
        ):
            np.testing.assert_allclose(found, r, rtol=1e-5, atol=1e-6)


def test_averages_normalise_each_row_by_itself():
    """And the statistics of a batch, all of its rows."""
    encoder, projector = nets()
    network = networks.chain(encoder=encoder, projector=projector)
    x = batch(0)["image"]
    params, state = network.init(jax.random.key(0), x)
    _, state = network.apply(params, state, x, train=True)
    for statistics in ("average", "own"):
        whole, after = momentum.forward(
            network.apply, params, state, x, statistics=statistics
        )
        half, _ = momentum.forward(
            network.apply, params, state, x[:4], statistics=statistics
        )
        alone = np.allclose(whole[:4], half, rtol=1e-5, atol=1e-6)
        kept = jax.tree.map(np.array_equal, state, after)
        assert alone == (statistics == "average")
        assert all(jax.tree.leaves(kept)) == (statistics == "average")


@pytest.mark.parametrize("name", MOVING)
def test_the_target_carries_no_gradient(name):
    """Central differences of the loss whose target stays where it is."""
    method = make(name, batch_norm=False, activation="tanh")
    *_, (params, state, _, aux) = walk(method, 2)
    m, moved = decay_at(name, 1), aux.state.target
    grads = jax.jit(jax.grad(lambda p, s: method.loss(p, s, batch(1), None)[0]))
    slopes = grads(params, state)

    @jax.jit
    def held(params):
        """The loss, from a target that `params` move to `moved`."""
        before = {
            k: jax.tree.map(lambda p, c: p + (c - p) / m, params[k], moved[k])
            for k in moved
        }
        return method.loss(params, state._replace(target=before), batch(1), None)[0]

    leaves, tree = jax.tree.flatten(params)
    rngs = jax.random.split(jax.random.key(3), len(leaves))
    ways = [jax.random.normal(r, p.shape) for r, p in zip(rngs, leaves, strict=True)]
    way, step = jax.tree.unflatten(tree, ways), 1e-3
    ahead, behind = (
        held(jax.tree.map(lambda p, d, s=s: p + s * d, params, way))
        for s in (step, -step)
    )
    found = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, slopes, way)))
    print(f"{name}: {found:.4f}, differences {(ahead - behind) / (2 * step):.4f}")
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=2e-2)

    by_target = jax.jit(
        jax.grad(
            lambda t: method.loss(params, state._replace(target=t), batch(1), None)[0]
        )
    )(state.target)
    assert not any(np.any(g) for g in jax.tree.leaves(by_target))


@pytest.mark.parametrize("name", MOVING)
def test_the_optimizer_has_no_slot_for_the_target(name):
    """Its moments are shaped like the parameters of one network."""
    start = jax.eval_shape(
        lambda rng: train.init_train_state(
            rng,
            {"index": jnp.arange(B), "image": jnp.zeros((B, 4, 4, 1))},
            method=make(name),
            augment=augment.views(lambda rng, x: x),
            optimizer=optax.adam(1e-3),
        ),
        jax.random.key(0),
    )
    moments = start.opt_state[0]
    names = {"encoder", "projector"}
    names |= {"predictor"} if name in ("byol", "moco_v3") else set()
    names |= {"prototypes"} if name == "dino" else set()
    assert set(start.params) == names
    assert shapes(moments.mu) == shapes(moments.nu) == shapes(start.params)
    assert shapes(start.state.target) == shapes(
        {k: start.params[k] for k in names - {"predictor"}}
    )


@pytest.mark.parametrize("name", ["byol", "moco_v3", "dino"])
def test_decay_is_counted_in_steps(name):
    """From τ₀ to exactly 1 and no further, another one at every step."""
    steps = TOTAL + 3
    found = [float(aux.metrics["ema_decay"]) for *_, aux in walk(make(name), steps)]
    expected = [decay_at(name, t) for t in range(steps)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    first = 0 if name == "moco_v3" else 1
    assert found[first] == DECAY
    assert found[first + TOTAL :] == [1.0] * (3 - first)
    assert np.all(np.diff(found[first : first + TOTAL + 1]) > 0)


def test_unfilled_slots_of_the_queue_do_not_count():
    """Whatever they hold: the value and the gradient are the same with NaN there."""
    method = make("moco")
    *_, (params, state, _, _) = walk(method, 2)
    rows = state.queue.rows
    assert 0 < int(state.queue.valid) == B < len(rows)
    grad = jax.jit(
        jax.value_and_grad(
            lambda p, rows: method.loss(
                p,
                state._replace(queue=state.queue._replace(rows=rows)),
                batch(1),
                None,
            )[0]
        )
    )
    clean = grad(params, rows)
    assert clean[0] > 0
    other = grad(params, rows.at[B:].set(jnp.nan))
    for a, b in zip(*map(jax.tree.leaves, (clean, other)), strict=True):
        np.testing.assert_array_equal(a, b)


def as64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

"""What is particular to one method, against the papers' own loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference import losses as reference
from reference.compiled import methods
from reference.networks import linear

from rl_jax import train
from rl_jax.errors import UsageError
from rl_jax.methods import tower
from rl_jax.types import Network

B, D = 4, 3


ENCODER, PROJECTOR = linear(5, 4, 1), linear(4, D, 2)
PREDICTOR = linear(D, D, 3)


def batch(seed):
    views = jax.random.normal(jax.random.key(seed), (B, 2, 5))
    return {"views": views, "image": views[:, 0], "label": jnp.arange(B) % 2}


def embed(params, x):
    return np.asarray(x, np.float64) @ params["encoder"] @ params["projector"]


def as64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def walk(method, steps, move):
    """`steps` losses, parameters moved by hand in between."""
    params, state = method.init(jax.random.key(0), batch(0))
    loss = jax.jit(method.loss)
    history = []
    for t in range(steps):
        value, aux = loss(params, state, batch(t), jax.random.key(t))
        history.append((as64(params), float(value), aux))
        state, params = aux.state, jax.tree.map(lambda p, t=t: move(p, t), params)
    return history


def move(p, t):
    return p + 0.1 * jnp.cos(p + t)


@pytest.mark.parametrize("symmetric", [False, True])
def test_moco_equals_the_paper(symmetric):
    """Update the key network, embed, score against the queue, then enqueue."""
    decay, tau, size = 0.6, 0.3, 10
    method = methods.moco(
        ENCODER,
        PROJECTOR,
        decay=decay,
        temperature=tau,
        queue_size=size,
        symmetric=symmetric,
    )
    target, queue = None, np.zeros((0, D))
    for t, (params, value, aux) in enumerate(walk(method, 5, move)):
        target = params if target is None else jax.tree.map(
            lambda k, q: decay * k + (1 - decay) * q, target, params
        )  # fmt: skip
        a, b = np.moveaxis(np.asarray(batch(t)["views"], np.float64), 1, 0)
        pairs = [(a, b), (b, a)] if symmetric else [(a, b)]
        keys = [reference.normalize(embed(target, y)) for _, y in pairs]
        expected = 0.0
        for (x, _), k in zip(pairs, keys, strict=True):
            q = reference.normalize(embed(params, x))
            positive = (q * k).sum(1) / tau
            logits = np.concatenate([positive[:, None], q @ queue.T / tau], 1)
            expected += np.mean(np.log(np.exp(logits).sum(1)) - positive) / len(pairs)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        new = np.stack(keys, 1).reshape(-1, D)
        queue = np.concatenate([queue, new])[-size:]
        found = np.asarray(aux.state.queue.rows)[: len(queue)]
        np.testing.assert_allclose(
            np.sort(found, 0), np.sort(queue, 0), rtol=1e-4, atol=1e-5
        )
        for name in params:
            np.testing.assert_allclose(
                aux.state.target[name], target[name], rtol=1e-4, atol=1e-6
            )


def test_moco_without_momentum_is_the_online_network():
    method = methods.moco(ENCODER, PROJECTOR, decay=0.0, queue_size=8)
    for params, _, aux in walk(method, 3, move):
        for name, p in params.items():
            np.testing.assert_array_equal(np.asarray(aux.state.target[name]), p)


def test_moco_keys_carry_no_gradient():
    """The gradient equals the one with keys as constants."""
    method = methods.moco(ENCODER, PROJECTOR, decay=0.0, queue_size=8, temperature=0.5)
    history = walk(method, 2, move)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), history[1][0])
    state = history[0][2].state
    grads = jax.grad(lambda p: method.loss(p, state, batch(1), None)[0])(params)
    fixed = as64(params)
    views = np.asarray(batch(1)["views"], np.float64)
    key = embed(fixed, views[:, 1])
    queue = np.asarray(state.queue.rows, np.float64)[: int(state.queue.valid)]
    q = embed(fixed, views[:, 0])
    _, (dq, *_) = reference.info_nce(q, key, queue, temperature=0.5)
    h = views[:, 0] @ fixed["encoder"]
    np.testing.assert_allclose(grads["projector"], h.T @ dq, rtol=1e-4, atol=1e-6)


def centred(groups):
    """A network that takes away the mean of each contiguous group of rows."""

    def apply(params, state, x, *, train, rng=None):
        del params, train, rng
        grouped = x.reshape(groups, -1, x.shape[-1])
        return (grouped - grouped.mean(1, keepdims=True)).reshape(x.shape), state

    return Network(lambda rng, x: ({}, {}), apply)


@pytest.mark.parametrize("split", [1, 2])
def test_moco_keys_are_normalised_with_other_rows_than_their_queries(split):
    """Query i is in group i // (B/k), key i in group i mod k where k is given."""
    method = methods.moco(
        centred(2), linear(5, D, 4), queue_size=8, temperature=0.5, split=split
    )
    params, state = method.init(jax.random.key(0), batch(0))
    _, aux = jax.jit(method.loss)(params, state, batch(1), None)
    x = np.asarray(batch(1)["views"][:, 1], np.float64)
    groups = [[0, 1], [2, 3]] if split == 1 else [[0, 2], [1, 3]]
    for rows in groups:
        x[rows] -= x[rows].mean(0)
    expected = reference.normalize(x @ np.asarray(params["projector"], np.float64))
    np.testing.assert_allclose(aux.features["z"][:, 1], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(aux.state.queue.rows[:B], expected, rtol=1e-5, atol=1e-6)


def test_dealt_keys_are_the_same_where_rows_do_not_meet():
    losses = []
    for split in (1, 2):
        method = methods.moco(ENCODER, PROJECTOR, queue_size=8, split=split)
        losses.append([value for _, value, _ in walk(method, 3, move)])
    np.testing.assert_allclose(*losses, rtol=1e-6, atol=1e-6)


def test_dealing_and_taking_back():
    x = jnp.arange(12).reshape(12, 1)
    dealt = tower.deal(x, 3)
    assert dealt[:, 0].tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    np.testing.assert_array_equal(tower.deal(dealt, 4), x)
    with pytest.raises(UsageError, match="split=5 does not divide the batch of 12"):
        tower.deal(x, 5)


def test_a_dealt_batch_stays_shared_out():
    """Each device goes on with its own rows; it takes one exchange, not a gather."""
    mesh = train.data_mesh(jax.devices()[:8])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    x = jax.device_put(jnp.zeros((64, 3)), rows)
    with jax.set_mesh(mesh):
        program = jax.jit(lambda x: tower.deal(x, 8)).lower(x).compile()
    assert program.output_shardings.is_equivalent_to(rows, 2)
    assert "all-to-all" in program.as_text()
    assert "all-gather" not in program.as_text()


def test_byol_equals_the_paper():
    """The authors' order: loss, update, then the target moves with the step's decay."""
    tau0, total = 0.5, 6
    method = methods.byol(ENCODER, PROJECTOR, PREDICTOR, total_steps=total, decay=tau0)
    target = None
    for t, (params, value, aux) in enumerate(walk(method, 5, move)):
        online = {k: v for k, v in params.items() if k != "predictor"}
        if target is None:
            target = online
        else:
            tau = 1 - (1 - tau0) * (np.cos(np.pi * (t - 1) / total) + 1) / 2
            target = jax.tree.map(
                lambda k, q, m=tau: m * k + (1 - m) * q, target, online
            )
        a, b = np.moveaxis(np.asarray(batch(t)["views"], np.float64), 1, 0)
        expected = 0.0
        for x, y in ((a, b), (b, a)):
            p = reference.normalize(embed(online, x) @ params["predictor"])
            z = reference.normalize(embed(target, y))
            expected += np.mean(((p - z) ** 2).sum(1))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for name in online:
            np.testing.assert_allclose(
                aux.state.target[name], target[name], rtol=1e-4, atol=1e-6
            )


@pytest.mark.parametrize(("tau0", "cosine"), [(0.5, True), (0.5, False), (0.0, False)])
def test_moco_v3_equals_the_paper(tau0, cosine):
    """The authors' order: the target moves with the step's decay, then makes keys."""
    total, tau = 6, 0.3
    method = methods.moco_v3(
        ENCODER, PROJECTOR, PREDICTOR, total_steps=total, temperature=tau, decay=tau0,
        cosine=cosine,
    )  # fmt: skip
    target = None
    for t, (params, value, aux) in enumerate(walk(method, 5, move)):
        online = {k: v for k, v in params.items() if k != "predictor"}
        m = 1 - (1 - tau0) * (np.cos(np.pi * t / total) + 1) / 2 if cosine else tau0
        target = online if target is None else jax.tree.map(
            lambda k, q, m=m: m * k + (1 - m) * q, target, online
        )  # fmt: skip
        a, b = np.moveaxis(np.asarray(batch(t)["views"], np.float64), 1, 0)
        expected = 0.0
        for x, y in ((a, b), (b, a)):
            q, k = embed(online, x) @ params["predictor"], embed(target, y)
            expected += 2 * tau * reference.info_nce(q, k, temperature=tau)[0]
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert float(aux.metrics["ema_decay"]) == pytest.approx(m, abs=1e-7)
        for name in online:
            # Without momentum the target is the network itself, bit for bit.
            close = {"rtol": 1e-4, "atol": 1e-6} if tau0 else {"rtol": 0.0, "atol": 0}
            np.testing.assert_allclose(aux.state.target[name], target[name], **close)


def test_probe_leaves_the_method_alone():
    """Loss, gradient and state of the method are bit for bit those without a probe."""
    plain = methods.simclr(ENCODER, PROJECTOR)
    probed = methods.with_probe(plain, num_classes=2)
    params, state = plain.init(jax.random.key(0), batch(0))
    more, more_state = probed.init(jax.random.key(0), batch(0))
    f = jax.jit(jax.value_and_grad(plain.loss, has_aux=True))
    g = jax.jit(jax.value_and_grad(probed.loss, has_aux=True))
    (value, aux), grads = f(params, state, batch(1), jax.random.key(1))
    (value2, aux2), grads2 = g(more, more_state, batch(1), jax.random.key(1))
    assert value == value2
    for name in grads:
        np.testing.assert_array_equal(grads[name], grads2["method"][name])
    assert np.any(np.asarray(grads2["probe"]["kernel"]))


def test_probe_does_not_count_unknown_labels():
    probed = methods.with_probe(methods.simclr(ENCODER, PROJECTOR), num_classes=2)
    params, state = probed.init(jax.random.key(0), batch(0))
    params["probe"]["kernel"] = jnp.tile(jnp.array([[1.0, -1.0]]), (4, 1))
    some = batch(1) | {"label": jnp.array([0, 1, -1, -1])}
    first = {k: v[:2] for k, v in some.items()}
    _, aux = probed.loss(params, state, some, None)
    _, only = probed.loss(params, state, first, None)
    for name in ("probe_loss", "probe_accuracy"):
        np.testing.assert_allclose(aux.metrics[name], only.metrics[name], rtol=1e-6)
    none = batch(1) | {"label": jnp.full((B,), -1)}
    assert probed.loss(params, state, none, None)[1].metrics["probe_loss"] == 0


def moco_v3(**options):
    parts = ENCODER, PROJECTOR, PREDICTOR
    return methods.moco_v3(*parts, **{"total_steps": 6} | options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: methods.simclr(ENCODER, PROJECTOR, temperature=-0.1), "got -0.1"),
        (lambda: methods.moco(ENCODER, PROJECTOR, temperature=0.0), "got 0.0"),
        (lambda: methods.moco(ENCODER, PROJECTOR, decay=1.0), r"\[0, 1\), got 1.0"),
        (lambda: methods.moco(ENCODER, PROJECTOR, queue_size=0), "got 0"),
        (lambda: methods.moco(ENCODER, PROJECTOR, split=0), "split must be at least 1"),
        (
            lambda: methods.byol(ENCODER, PROJECTOR, PREDICTOR, total_steps=0),
            "total_steps must be at least 1, got 0",
        ),
        (
            lambda: methods.moco(ENCODER, PROJECTOR, target_statistics="both"),
            "moco: target_statistics must be one of own, average, got 'both'",
        ),
        (
            lambda: methods.dino(
                ENCODER, PROJECTOR, total_steps=1, target_statistics="both"
            ),
            "dino: target_statistics",
        ),
        (lambda: moco_v3(temperature=0.0), "moco_v3: temperature must be > 0"),
        (lambda: moco_v3(decay=1.1), r"moco_v3: decay must be in \[0, 1\], got 1.1"),
        (lambda: moco_v3(total_steps=0), "moco_v3: total_steps must be at least 1"),
        (lambda: moco_v3(target_statistics="both"), "moco_v3: target_statistics"),
    ],
)
def test_refuses_values_out_of_range(make, message):
    with pytest.raises(UsageError, match=message):
        make()

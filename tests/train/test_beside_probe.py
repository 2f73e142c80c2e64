"""An encoder trains beside an online probe as it would without one."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import augment, data, methods, networks, train
from rl_jax.train.optimizers import clipped

ENCODER = {
    "embed": {"kernel": (5, 4), "bias": (4,)},
    "block1": {"kernel": (4, 4), "bias": (4,)},
    "norm": {"scale": (4,)},
}
CLIPPED = {"clip_norm": 0.5}
BY_DEPTH = {"layer_decay": 0.5, "embed_rate": 0.5}
OPTIMIZERS = {
    "adamw": functools.partial(train.adamw),
    "adamw clipped": functools.partial(train.adamw, **CLIPPED),
    "adamw each": functools.partial(train.adamw, **CLIPPED, clip_each=True),
    "adamw deep": functools.partial(train.adamw, **CLIPPED, **BY_DEPTH),
    "adamw growing": functools.partial(train.adamw, **CLIPPED, end_weight_decay=0.4),
    "sgd": functools.partial(train.sgd),
    "sgd clipped": functools.partial(train.sgd, **CLIPPED),
    "sgd constant": functools.partial(train.sgd, **CLIPPED, constant=("predictor",)),
    "lars": functools.partial(train.lars),
    "lars vectors": functools.partial(train.lars, **CLIPPED, vector_rate=0.01),
    **{
        f"lars {form}": functools.partial(train.lars, **CLIPPED, form=form)
        for form in ("simclr", "mae", "paper", "bolts")
    },
    "lars limited": functools.partial(
        train.lars, **CLIPPED, form="bolts", clip_lr=True, trust_coefficient=0.02
    ),
}


def drawn(seed, shapes, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


METHOD = {"encoder": ENCODER, "predictor": {"kernel": (4, 4), "bias": (4,)}}
PROBE = {"kernel": (4, 3), "bias": (3,)}


def trained(optimizer, params, gradients):
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for each in gradients:
        updates, state = update(each, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_lets_the_probe_touch_the_method(name):
    """Bit for bit, however long the probe's gradient."""
    optimizer = OPTIMIZERS[name](total_steps=9, weight_decay=0.1)
    params, probe = drawn(0, METHOD), drawn(1, PROBE)
    alone = [drawn(t, METHOD) for t in range(2, 6)]
    beside = [
        {"method": g, "probe": drawn(10 + t, PROBE, scale=100.0)}
        for t, g in enumerate(alone)
    ]
    found = trained(optimizer, {"method": params, "probe": probe}, beside)
    chex.assert_trees_all_equal(found["method"], trained(optimizer, params, alone))
    assert np.any(np.asarray(found["probe"]["kernel"] != probe["kernel"]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_probe_has_the_rate_and_nothing_else(name):
    """Without decay, adaptation or clipping: Adam's steps, or those of SGD."""
    options = {"total_steps": 9, "learning_rate": 0.1, "scaling": "none"}
    make = train.adamw if "adamw" in name else train.sgd
    # With momentum the forms of LARS differ where the rate moves.
    options |= {} if make is train.adamw else {"momentum": 0.0}
    optimizer = OPTIMIZERS[name](**options, weight_decay=0.1)
    plain = make(**options, weight_decay=0.0)
    probe = drawn(1, PROBE)
    gradients = [drawn(t, PROBE, scale=10.0) for t in range(4)]
    params = {"method": drawn(0, METHOD), "probe": probe}
    beside = [{"method": drawn(9, METHOD), "probe": g} for g in gradients]
    found = trained(optimizer, params, beside)["probe"]
    expected = trained(plain, probe, gradients)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("each", [False, True])
def test_the_state_keeps_the_tree_that_checkpoints_have(each):
    """Empty nodes too, by which a checkpoint of before is or is not restored."""
    params = {"method": drawn(0, METHOD), "probe": drawn(1, PROBE)}
    found = clipped("x", optax.adam(0.1), 0.5, each=each).init(params)
    before = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)).init(params)
    assert jax.tree.structure(found) == jax.tree.structure(before)


def test_an_optimizer_of_ones_own_leaves_it_out_by_a_mask():
    """What looks at all gradients at once counts the probe, unless it is masked."""
    params, probe = drawn(0, METHOD), drawn(1, PROBE)
    g, of_probe = drawn(2, METHOD), drawn(3, PROBE, scale=100.0)
    bound = optax.clip_by_global_norm(0.5)

    def both(bound):
        optimizer = optax.chain(bound, optax.adam(0.1, eps=1.0))
        beside = {"method": params, "probe": probe}
        found = trained(optimizer, beside, [{"method": g, "probe": of_probe}])
        return found["method"], trained(optimizer, params, [g])

    chex.assert_trees_all_equal(*both(optax.masked(bound, train.not_probe)))
    one, two = both(bound)
    assert np.any(np.asarray(one["predictor"]["kernel"] != two["predictor"]["kernel"]))


def network(out):
    return networks.mlp(features=(8,), out=out, batch_norm=False)


MADE = {
    "simclr": lambda: methods.simclr(network(8), network(4)),
    "byol": lambda: methods.byol(network(8), network(4), network(4), total_steps=9),
    "supervised": lambda: methods.supervised(network(8), num_classes=3),
    "vib": lambda: methods.vib(network(8), num_classes=3, latent=4),
}


MAKERS = (train.adamw, train.sgd, train.lars)
QUICK_PAIRS = (
    *(("simclr", train.adamw), ("byol", train.lars)),
    *(("supervised", train.sgd), ("vib", train.adamw)),
)
"""Every method and every optimizer; the other pairs are slow."""


@pytest.mark.parametrize(
    ("name", "make"),
    [
        pytest.param(*pair, marks=() if pair in QUICK_PAIRS else pytest.mark.slow)
        for pair in itertools.product(MADE, MAKERS)
    ],
)
def test_training_is_the_same_with_and_without(name, make):
    """Parameters, state, loss and `grad_norm`, clipped at every step."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 4, 4, 1)).astype(np.uint8)
    source = data.arrays(images, rng.integers(0, 3, 32))

    def run(method):
        rows = []
        state = train.fit(
            method,
            source,
            augment=augment.views(
                lambda rng, x: x + 0.1 * jax.random.normal(rng, x.shape)
            ),
            optimizer=make(total_steps=9, clip_norm=1e-2),
            steps=4,
            batch_size=8,
            log_every=1,
            mesh=train.data_mesh(jax.devices()[:1]),
            on_log=rows.append,
        )
        return state, rows

    method = MADE[name]()
    state, rows = run(method)
    beside, more = run(methods.with_probe(method, num_classes=3))
    for one, two in zip(rows, more, strict=True):
        assert one["grad_norm"] == two["grad_norm"] > 1e-2
        assert one["loss"] == two["loss"]
        assert two["probe_loss"] > 0
    chex.assert_trees_all_equal(beside.params["method"], state.params)
    chex.assert_trees_all_equal(beside.state, state.state)
    assert np.any(np.asarray(beside.params["probe"]["kernel"]))

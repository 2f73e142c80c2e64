"""Every pass through a network in training gets noise of its own."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference.machine import quick_jit as jit

from rl_jax import methods, networks, train
from rl_jax.methods import micro_batch, noise
from rl_jax.types import Augment

CASES = cases.every()
STEP = jax.random.key(11)


def one_after_the_other(apply, *, parts, devices, loop):
    """Micro-batches written out, without a gradient that hides what they are given."""
    assert devices == 1

    def run(params, state, x, rng):
        rows = jnp.split(x, parts)
        each = [
            apply(params, state, part, jax.random.fold_in(rng, j))
            for j, part in enumerate(rows)
        ]
        return jnp.concatenate([y for y, _ in each]), each[-1][1]

    return run


def keys_of_passes(method, params, state, batch):
    """Bits of the key of each pass in training, None where a network was given none.

    A single linear layer, as methods add them, needs none.
    """
    seen = []

    def note(call, args, kwargs, context):
        module = context.module
        if context.method_name == "__call__" and not module.path and kwargs["train"]:
            if module.has_rng("dropout"):
                seen.append(jax.random.key_data(module.scope.rngs["dropout"].rng))
            elif getattr(module, "features", None) != ():
                seen.append(None)
        return call(*args, **kwargs)

    def loss(params, state, batch):
        with nn.intercept_methods(note):
            method.loss(params, state, batch, STEP)
        return seen

    found = jit(loss)(params, state, batch)
    return [None if bits is None else tuple(bits.tolist()) for bits in found]


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].slow])
def test_each_pass_has_a_key_of_its_own(name, monkeypatch):
    """Not that of another pass, nor one of those that examples get by their index."""
    monkeypatch.setattr(micro_batch, "_one_after_the_other", one_after_the_other)
    method = CASES[name].make()
    batch = CASES[name].augment.views(jax.random.key(7), CASES[name].batch(0))
    params, state = jit(method.init)(jax.random.key(0), batch)
    found = keys_of_passes(method, params, state, batch)
    assert len(found) >= 1
    assert None not in found
    assert len(set(found)) == len(found)
    examples = jax.vmap(jax.random.fold_in, (None, 0))(STEP, jnp.arange(100))
    of_examples = jax.random.key_data(examples).tolist()
    assert not set(found) & set(map(tuple, of_examples))


def test_keys():
    """All different, and none where there is no rng."""
    bits = [tuple(jax.random.key_data(k).tolist()) for k in noise.keys(STEP, 5)]
    assert len(set(bits)) == 5
    assert noise.keys(None, 2) == [None, None]
    rng = jax.random.split(STEP)[0]
    assert tuple(jax.random.key_data(rng).tolist()) not in bits


class Thinned(nn.Module):
    """A user's module, with dropout as its only difference of two equal views."""

    rate: float

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(64)(x.reshape(len(x), -1))
        return nn.Dropout(self.rate)(x, deterministic=not train)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_views_do_not_share_a_mask(rate):
    """Equal views have equal embeddings without dropout, different ones with it."""
    encoder = networks.from_linen(Thinned(rate))
    head = networks.from_linen(Thinned(0.0))
    image = jax.random.normal(jax.random.key(1), (16, 8))
    batch = {"index": jnp.arange(16), "views": jnp.stack([image, image], axis=1)}
    for method in (
        methods.simclr(encoder, head),
        methods.simclr(encoder, head, micro_batch=4),
        methods.moco(encoder, head, queue_size=32),
    ):
        params, state = method.init(jax.random.key(0), batch)
        _, aux = jit(method.loss)(params, state, batch, STEP)
        z = aux.features["z"]
        same = np.allclose(z[:, 0], z[:, 1], atol=1e-5)
        assert same == (rate == 0)


@pytest.mark.parametrize("statistics", ["own", "average"])
def test_a_target_that_averages_drops_nothing(statistics):
    encoder = networks.from_linen(Thinned(0.5))
    head = networks.mlp(features=(), out=8)
    image = jax.random.normal(jax.random.key(1), (16, 8))
    batch = {"index": jnp.arange(16), "views": jnp.stack([image, image], axis=1)}
    method = methods.moco(encoder, head, queue_size=32, target_statistics=statistics)
    params, state = method.init(jax.random.key(0), batch)
    _, aux = jit(method.loss)(params, state, batch, STEP)
    clean = method.encode(params, state, {"image": image})["z"]
    clean = clean / jnp.linalg.norm(clean, axis=1, keepdims=True)
    close = np.allclose(aux.features["z"][:, 1], clean, atol=1e-5)
    assert close == (statistics == "average")


def test_masks_do_not_depend_on_devices():
    encoder = networks.from_linen(Thinned(0.5))
    method = methods.simclr(encoder, networks.mlp(features=(), out=8))
    views = jax.random.normal(jax.random.key(1), (16, 2, 8))
    params, state = method.init(jax.random.key(0), {"views": views})
    loss = jit(lambda views: method.loss(params, state, {"views": views}, STEP))
    _, one = loss(views)
    mesh = train.data_mesh(jax.devices()[:8])
    with jax.set_mesh(mesh):
        _, many = loss(jax.device_put(views, NamedSharding(mesh, P("data"))))
    h = one.features["h"]
    assert 0.4 < np.mean(h == 0) < 0.6
    np.testing.assert_array_equal(many.features["h"] == 0, h == 0)


def test_masks_follow_from_seed_and_step():
    """As all noise does: the same step draws the same ones, the next step others."""
    image = jax.random.normal(jax.random.key(1), (16, 8))
    encoder = networks.from_linen(Thinned(0.5))
    pieces = {
        "method": methods.byol(
            encoder, networks.projection_head(out=8),
            networks.prediction_head(out=8), total_steps=10,
        ),
        "augment": Augment(
            views=lambda rng, b: b | {"views": jnp.stack([b["image"]] * 2, axis=1)},
            clean=lambda image: image,
        ),
        "optimizer": optax.sgd(0.1),
    }  # fmt: skip
    batch = {"index": jnp.arange(16), "image": image}
    start = train.init_train_state(jax.random.key(0), batch, **pieces)
    step = jit(lambda state: train.train_step(state, batch, **pieces))
    one, first = step(start)
    again, same = step(start)
    _, second = step(one._replace(params=start.params, state=start.state))
    assert first["loss"] == same["loss"]
    assert first["loss"] != second["loss"]
    assert int(again.step) == 1

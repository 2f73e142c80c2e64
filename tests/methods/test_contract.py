"""What every method keeps, whatever it does: one compilation each."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rl_jax import augment, methods, networks, train
from rl_jax.types import Augment

pytestmark = pytest.mark.core
BATCH = 16


def nets(predictor=False, split=1, **encoder):
    encoder = networks.mlp(features=(16,), out=16, split=split, **encoder)
    projector = networks.projection_head(hidden=16, out=8, split=split)
    head = [networks.prediction_head(hidden=16, out=8)] if predictor else []
    return encoder, projector, *head


METHODS = {
    "simclr": lambda: methods.simclr(*nets(), temperature=0.5),
    "simclr in micro-batches": lambda: methods.simclr(
        *nets(batch_norm=False), micro_batch=BATCH // 2
    ),
    "moco": lambda: methods.moco(*nets(), queue_size=40, decay=0.9),
    "moco symmetric": lambda: methods.moco(*nets(), queue_size=40, symmetric=True),
    "moco split": lambda: methods.moco(*nets(split=4), queue_size=40, split=4),
    "byol": lambda: methods.byol(*nets(True), total_steps=10, decay=0.9),
    "simclr + probe": lambda: methods.with_probe(
        methods.simclr(*nets()), num_classes=4
    ),
    "byol + probe": lambda: methods.with_probe(
        methods.byol(*nets(True), total_steps=10), num_classes=4
    ),
}


def test_every_method_is_here():
    tested = {name.split()[0] for name in METHODS}
    assert set(methods.__all__) == tested | {"with_probe"}


def raw_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.asarray(rng.permutation(100)[:BATCH], jnp.int32),
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 4, BATCH), jnp.int32),
    }


def noisy(rng, image):
    return image + 0.1 * jax.random.normal(rng, image.shape)


class Case:
    """A method with its compiled step, after two steps (a queue has then keys)."""

    def __init__(self, name):
        pieces = {
            "method": METHODS[name](),
            "augment": augment.views(noisy),
            "optimizer": optax.adam(1e-3),
        }
        self.method = pieces["method"]
        self.augment: Augment = pieces["augment"]
        init = functools.partial(train.init_train_state, **pieces)
        self.start = jax.jit(init)(jax.random.key(0), raw_batch())
        self.step = jax.jit(functools.partial(train.train_step, **pieces))
        self.after, self.metrics = self.step(self.start, raw_batch(0))
        self.after, self.metrics = self.step(self.after, raw_batch(1))
        self.batch = jax.jit(self.augment.views)(jax.random.key(7), raw_batch(2))


# Their methods are in the quick ones; what is particular to them in test_details.py.
SLOW = {
    "byol + probe",
    "moco split",
    "moco symmetric",
    "simclr + probe",
    "simclr in micro-batches",
}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in METHODS
]


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return Case(request.param)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.aval.weak_type), tree)


def test_step_keeps_types(case):
    assert types(case.after) == types(case.start)
    assert types(case.after.state) == types(case.start.state)


def test_step_is_pure_and_traced_once(case):
    one, _ = case.step(case.start, raw_batch(3))
    two, _ = case.step(case.start, raw_batch(3))
    chex.assert_trees_all_equal(one, two)
    assert int(one.step) == 1
    case.step(two, raw_batch(4))
    assert case.step._cache_size() == 1


def test_every_parameter_gets_gradient(case):
    ts, rng = case.after, jax.random.key(1)
    grads = jax.jit(
        lambda p: jax.grad(case.method.loss, has_aux=True)(p, ts.state, case.batch, rng)
    )(ts.params)[0]
    chex.assert_tree_all_finite(grads)
    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(grads)
        if not jnp.any(g != 0)
    ]
    assert not dead


def test_a_small_step_lowers_the_loss(case):
    """At fixed state and rng. The probe's own loss is invisible in the value."""
    ts, rng = case.after, jax.random.key(1)

    def loss(params):
        return case.method.loss(params, ts.state, case.batch, rng)[0]

    value, grads = jax.jit(jax.value_and_grad(loss))(ts.params)
    grads = grads.get("method", grads)
    rate = 1e-2 / float(optax.tree.norm(grads))
    params = ts.params.get("method", ts.params)
    moved = jax.tree.map(lambda p, g: p - rate * g, params, grads)
    if "method" in ts.params:
        moved = ts.params | {"method": moved}
    assert float(jax.jit(loss)(moved)) < float(value)


def test_encode(case):
    """Finite [B, D] representations, the same twice; `h` is among them."""
    encode = jax.jit(case.method.encode)
    out = encode(case.after.params, case.after.state, case.batch)
    assert {"h", "z"} <= set(out)
    for value in out.values():
        chex.assert_rank(value, 2)
        assert len(value) == BATCH
    chex.assert_tree_all_finite(out)
    again = encode(case.after.params, case.after.state, case.batch)
    chex.assert_trees_all_equal(out, again)


def test_features_carry_no_gradient(case):
    ts, rng = case.after, jax.random.key(1)

    def total(params):
        _, aux = case.method.loss(params, ts.state, case.batch, rng)
        return sum(jnp.sum(v) for v in jax.tree.leaves(aux.features))

    grads = jax.jit(jax.grad(total))(ts.params)
    assert not any(bool(jnp.any(g != 0)) for g in jax.tree.leaves(grads))


def test_metrics_are_finite_scalars(case):
    assert {"loss", "grad_norm", "nonfinite", "z_std"} <= set(case.metrics)
    for name, value in case.metrics.items():
        assert value.shape == (), name
        assert jnp.isfinite(value), name
    assert case.metrics["nonfinite"] == 0


def test_eight_devices_equal_one(case):
    mesh = train.data_mesh(jax.devices()[:8])
    everywhere = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    pieces = {
        "method": case.method,
        "augment": case.augment,
        "optimizer": optax.adam(1e-3),
    }
    step = jax.jit(functools.partial(train.train_step, **pieces))
    with jax.set_mesh(mesh):
        state = jax.device_put(case.after, everywhere)
        many, many_metrics = step(state, jax.device_put(raw_batch(4), rows))
    one, one_metrics = case.step(case.after, raw_batch(4))
    for name, value in one_metrics.items():
        np.testing.assert_allclose(
            many_metrics[name], value, rtol=2e-5, atol=2e-6, err_msg=name
        )
    # Adam turns a gradient of rounding size into a step of 1e-3 either way.
    one, many = (jax.tree.map(np.asarray, s.state) for s in (one, many))
    chex.assert_trees_all_close(many, one, rtol=1e-4, atol=1e-5)

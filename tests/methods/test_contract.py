"""What every method keeps, whatever it does: one compilation each."""

import functools

import cases
import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference.machine import quick_jit as jit

from rl_jax import methods, train
from rl_jax.types import Augment

pytestmark = pytest.mark.core
CASES = cases.every()


def test_every_method_is_here():
    tested = {name.split()[0] for name in CASES}
    assert set(methods.__all__) == tested | {"with_probe"}


class Trained:
    """A method with its compiled step, after two steps (a queue has then keys)."""

    def __init__(self, case):
        self.case = case
        self.pieces = {
            "method": case.make(),
            "augment": case.augment,
            "optimizer": optax.adam(1e-3),
        }
        self.method = self.pieces["method"]
        self.augment: Augment = case.augment
        self.init = functools.partial(train.init_train_state, **self.pieces)
        self.start = jit(self.init)(jax.random.key(0), case.batch(0))
        self.step = jit(functools.partial(train.train_step, **self.pieces))
        self.after, self.metrics = self.step(self.start, case.batch(0))
        self.after, self.metrics = self.step(self.after, case.batch(1))
        self.batch = jit(self.augment.views)(jax.random.key(7), case.batch(2))
        self._slopes = jit(self._value_and_slopes)
        self.value, *self.slopes = self.slopes_at(self.after.params)

    def slopes_at(self, params):
        """Loss, its gradient and that of the features' sum, at fixed state and rng."""
        return self._slopes(params, self.after.state, self.batch, jax.random.key(1))

    def _value_and_slopes(self, params, state, batch, rng):
        def values(params):
            value, aux = self.method.loss(params, state, batch, rng)
            return value, sum(jnp.sum(v) for v in jax.tree.leaves(aux.features))

        (value, total), back = jax.vjp(values, params)
        zero, one = jnp.zeros_like(total), jnp.ones_like(total)
        return value, back((one, zero))[0], back((zero, one))[0]


NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if case.slow else name
    for name, case in CASES.items()
]


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    return Trained(CASES[request.param])


def as_data(tree):
    """Random keys as their bits."""
    return jax.tree.map(
        lambda x: (
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        tree,
    )


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.aval.weak_type), tree)


def test_step_keeps_types(case):
    assert types(case.after) == types(case.start)
    assert types(case.after.state) == types(case.start.state)


def test_step_is_pure_and_traced_once(case):
    one, _ = case.step(case.start, case.case.batch(3))
    two, _ = case.step(case.start, case.case.batch(3))
    chex.assert_trees_all_equal(one, two)
    assert int(one.step) == 1
    case.step(two, case.case.batch(4))
    assert case.step._cache_size() == 1


OVER_CANDIDATES = {
    *("info_nce", "cpc", "memory_bank", "nnclr", "sup_con", "clip", "simclr", "moco"),
    *("moco_v3", "simcse", "contrastive_vib"),
}


def test_a_softmax_over_candidates_tells_its_temperature(case, request):
    """And only that: what is judged of it says nothing of other losses."""
    method = request.node.callspec.params["case"].split()[0]
    told = {"softmax_entropy", "max_softmax"} & case.metrics.keys()
    assert len(told) == (2 if method in OVER_CANDIDATES else 0)
    for name in told:
        assert 0 <= float(case.metrics[name]) <= 1 + 1e-6


def test_every_parameter_gets_gradient(case):
    grads = case.slopes[0]
    chex.assert_tree_all_finite(grads)
    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(grads)
        if not jnp.any(g != 0)
    ]
    assert dead == list(case.case.silent)


def test_a_small_step_lowers_the_loss(case):
    """At fixed state and rng. The probe's own loss is invisible in the value."""
    grads = case.slopes[0].get("method", case.slopes[0])
    rate = 1e-2 / float(optax.tree.norm(grads))
    params = case.after.params.get("method", case.after.params)
    moved = jax.tree.map(lambda p, g: p - rate * g, params, grads)
    if "method" in case.after.params:
        moved = case.after.params | {"method": moved}
    assert float(case.slopes_at(moved)[0]) < float(case.value)


def test_encode(case):
    """Finite [B, D] representations, the same twice; `h` is among them."""
    encode = jit(case.method.encode)
    out = encode(case.after.params, case.after.state, case.batch)
    assert "h" in out
    for name, value in out.items():
        assert name == "reconstruction" or value.ndim == 2
        assert len(value) == cases.BATCH
    chex.assert_tree_all_finite(out)
    again = encode(case.after.params, case.after.state, case.batch)
    chex.assert_trees_all_equal(out, again)


def test_encode_is_traced_for_any_number_of_examples(case):
    """As an export does it, with weights that are constants of NumPy."""
    (count,) = jax.export.symbolic_shape("b")
    batch = {
        name: jax.ShapeDtypeStruct((count, *np.shape(x)[1:]), jnp.asarray(x).dtype)
        for name, x in case.batch.items()
    }
    weights = jax.tree.map(np.asarray, (case.after.params, case.after.state))
    found = jax.eval_shape(functools.partial(case.method.encode, *weights), batch)
    assert {x.shape[0] for x in jax.tree.leaves(found)} == {count}


def test_features_carry_no_gradient(case):
    assert not any(bool(jnp.any(g != 0)) for g in jax.tree.leaves(case.slopes[1]))


def test_metrics_are_finite_scalars(case):
    assert {"loss", "grad_norm", "nonfinite"} <= set(case.metrics)
    for name, value in case.metrics.items():
        assert value.shape == (), name
        assert jnp.isfinite(value), name
    assert case.metrics["nonfinite"] == 0


def test_eight_devices_equal_one(case):
    mesh = train.data_mesh(jax.devices()[:8])
    everywhere = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    step = jit(functools.partial(train.train_step, **case.pieces))
    with jax.set_mesh(mesh):
        state = jax.device_put(case.after, everywhere)
        many, many_metrics = step(state, jax.device_put(case.case.batch(4), rows))
    one, one_metrics = case.step(case.after, case.case.batch(4))
    for name, value in one_metrics.items():
        np.testing.assert_allclose(
            many_metrics[name], value, rtol=2e-5, atol=2e-6, err_msg=name
        )
    # Adam turns a gradient of rounding size into a step of 1e-3 either way.
    one, many = (jax.tree.map(np.asarray, s.state) for s in (one, many))
    chex.assert_trees_all_close(many, one, rtol=1e-4, atol=1e-5)


def test_resumes_bit_for_bit(case, tmp_path):
    """What a checkpoint holds is all there is: the next step is the same."""
    with train.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, case.after)
        checkpoints.finish()
    mesh = train.data_mesh(jax.devices()[:1])
    start = functools.partial(case.init, jax.random.key(0), case.case.batch(0))
    with train.Checkpoints(tmp_path, read_only=True) as checkpoints:
        _, restored = checkpoints.restore(train.restore_target(start, mesh))
    restored = jax.device_put(restored, jax.devices()[0])
    one, _ = case.step(case.after, case.case.batch(5))
    two, _ = case.step(restored, case.case.batch(5))
    chex.assert_trees_all_equal(as_data(one), as_data(two))

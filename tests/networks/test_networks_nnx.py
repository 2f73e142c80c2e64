"""NNX modules: pure, their statistics and noise where a step expects them."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from reference.machine import quick_jit as jit

from rl_jax import augment, methods, networks, train
from rl_jax.errors import UsageError
from rl_jax.methods.micro_batch import micro_batched

RNG = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 6)), jnp.float32)


class Net(nnx.Module):
    """Two linear layers in a list, BatchNorm and two masks."""

    def __init__(self, *, rngs, width=8, rate=0.5):
        self.layers = nnx.List(
            [nnx.Linear(6, width, rngs=rngs), nnx.Linear(width, 4, rngs=rngs)]
        )
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.inner = nnx.Dropout(rate, rngs=rngs)
        self.outer = nnx.Dropout(rate, rngs=rngs)

    def __call__(self, x):
        x = self.layers[0](x.reshape(len(x), -1))
        return self.outer(self.layers[1](self.inner(nnx.relu(self.norm(x)))))


class Masks(nnx.Module):
    """Noise alone."""

    def __init__(self, rngs):
        self.a = nnx.Dropout(0.5, rngs=rngs)
        self.b = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.b(self.a(x))


def net(**options):
    return networks.from_nnx(lambda rngs: Net(rngs=rngs, **options))


def test_parameters_and_statistics_by_their_names():
    params, state = net().init(RNG, X)
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {
        "layers": {
            "0": {"kernel": (6, 8), "bias": (8,)},
            "1": {"kernel": (8, 4), "bias": (4,)},
        },
        "norm": {"scale": (8,), "bias": (8,)},
    }
    assert jax.tree.map(jnp.shape, state) == {"norm": {"mean": (8,), "var": (8,)}}
    again, _ = net().init(RNG, X)
    other, _ = net().init(jax.random.key(1), X)
    chex.assert_trees_all_equal(params, again)
    kernel = other["layers"]["0"]["kernel"]
    assert not np.allclose(params["layers"]["0"]["kernel"], kernel)


def test_equals_the_formula():
    """Without noise: normalised by the batch in training, by averages else."""
    network = net(rate=0.0)
    params, state = network.init(RNG, X)
    p, x = jax.tree.map(lambda v: np.asarray(v, np.float64), params), np.asarray(X)
    first, second = p["layers"]["0"], p["layers"]["1"]
    a = x @ first["kernel"] + first["bias"]
    run = jit(functools.partial(network.apply, train=True))
    y, new = run(params, state, X, rng=RNG)
    hidden = np.maximum((a - a.mean(0)) / np.sqrt(a.var(0) + 1e-5), 0)
    expected = hidden @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    mean, var = 0.1 * a.mean(0), 0.9 + 0.1 * a.var(0)
    np.testing.assert_allclose(new["norm"]["mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new["norm"]["var"], var, rtol=1e-4)

    y, same = network.apply(params, new, X, train=False)
    hidden = np.maximum((a - mean) / np.sqrt(var + 1e-5), 0)
    expected = hidden @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert same is new


def test_is_pure():
    network = net()
    params, state = network.init(RNG, X)
    before = jax.tree.map(np.array, (params, state))
    one = network.apply(params, state, X, train=True, rng=RNG)
    two = network.apply(params, state, X, train=True, rng=RNG)
    chex.assert_trees_all_equal(one, two)
    chex.assert_trees_all_equal(before, (params, state))


@pytest.mark.parametrize("raw", [False, True])
def test_noise_is_drawn_from_the_rng(raw):
    """Each layer its own, another for another key; none in evaluation."""
    make = jax.random.PRNGKey if raw else jax.random.key
    network = networks.from_nnx(Masks)
    params, state = network.init(make(0), X)
    assert (params, state) == ({}, {})
    ones = jnp.ones((64, 64))
    run = functools.partial(network.apply, params, state, ones)
    y, _ = run(train=True, rng=make(1))
    kept = float(jnp.mean(y > 0))
    assert 0.2 < kept < 0.3, "two masks that are one would keep a half"
    np.testing.assert_array_equal(y, run(train=True, rng=make(1))[0])
    assert not np.array_equal(y, run(train=True, rng=make(2))[0])
    np.testing.assert_array_equal(run(train=False)[0], ones)
    with pytest.raises(UsageError, match="Masks: it draws noise in training and was"):
        run(train=True)


def test_a_module_without_noise_needs_no_rng():
    network = networks.from_nnx(lambda rngs: nnx.Linear(6, 3, rngs=rngs))
    params, state = network.init(RNG, X)
    y, _ = network.apply(params, state, X, train=True)
    kernel, bias = params["kernel"], params["bias"]
    np.testing.assert_allclose(y, X @ kernel + bias[None], rtol=1e-5, atol=1e-6)


def test_what_is_sown_is_no_state():
    class Sowing(nnx.Module):
        def __call__(self, x):
            self.seen = nnx.Intermediate((x,))
            return 2 * x

    network = networks.from_nnx(lambda rngs: Sowing())
    params, state = network.init(RNG, X)
    y, new = network.apply(params, state, X, train=True)
    assert (params, state, new) == ({}, {}, {})
    np.testing.assert_array_equal(y, 2 * X)


def test_trains_and_resumes(tmp_path):
    """A step of BYOL, its encoder here and its head of Linen, by checkpoint too."""
    image = jnp.asarray(np.random.default_rng(1).normal(size=(16, 3, 2, 1)))
    batch = {"index": jnp.arange(16), "image": image.astype(jnp.float32)}
    pieces = {
        "method": methods.byol(
            net(rate=0.1), networks.projection_head(hidden=8, out=4),
            networks.prediction_head(hidden=8, out=4), total_steps=10,
        ),
        "augment": augment.views(lambda rng, x: x + jax.random.normal(rng, x.shape)),
        "optimizer": optax.adam(1e-3),
    }  # fmt: skip
    start = functools.partial(train.init_train_state, RNG, batch, **pieces)
    step = jit(functools.partial(train.train_step, **pieces))
    state, metrics = step(jit(start)(), batch)
    assert metrics["nonfinite"] == 0
    assert step._cache_size() == 1
    with train.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.finish()
        mesh = train.data_mesh(jax.devices()[:1])
        _, restored = checkpoints.restore(train.restore_target(start, mesh))
    restored = jax.device_put(restored, jax.devices()[0])
    one, _ = step(state, batch)
    two, _ = step(restored, batch)
    chex.assert_trees_all_equal(one.params, two.params)
    chex.assert_trees_all_equal(one.state, two.state)


def test_rows_that_meet_keep_it_from_micro_batches():
    with pytest.raises(UsageError, match=r"micro_batch=8: batch statistics"):
        micro_batched(net(), 8).init(RNG, X)
    network = micro_batched(
        networks.from_nnx(lambda rngs: nnx.Linear(6, 3, rngs=rngs)), 8
    )
    params, state = network.init(RNG, X)
    y, _ = network.apply(params, state, X, train=True)
    kernel, bias = params["kernel"], params["bias"]
    np.testing.assert_allclose(y, X @ kernel + bias[None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Net, "got one that fails: .*takes 1 positional argument"),
        (lambda rngs: 3, "a function that makes an nnx.Module, got one of"),
        (Masks(nnx.Rngs(0)), "expected a function of nnx.Rngs, got Masks; write"),
        (3, "expected a function of nnx.Rngs, got int"),
    ],
)
def test_refuses_what_makes_no_module(make, message):
    with pytest.raises(UsageError, match=message) as error:
        networks.from_nnx(make)
    assert "\n" not in str(error.value)


def test_refuses_inputs_it_cannot_take():
    with pytest.raises(UsageError, match=r"Net: it cannot take inputs \(16, 5\)"):
        net().init(RNG, X[:, :5])


def test_names_of_the_package():
    assert "from_nnx" in networks.__all__
    with pytest.raises(AttributeError, match="no attribute 'from_keras'"):
        _ = networks.from_keras


class Kept(nnx.Module):
    """Arrays of every kind, none of them trained but those of the layers."""

    def __init__(self, rngs):
        self.layer = nnx.Linear(6, 4, rngs=rngs)
        self.inner = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(11)])
        self.mask = jnp.arange(6.0) > 2
        self.places = np.linspace(0.0, 1.0, 6, dtype=np.float32)
        self.seen = nnx.Intermediate(jnp.zeros(4))
        self.count = nnx.BatchStat(jnp.zeros([], jnp.int32))

    def __call__(self, x):
        x = x.reshape(len(x), -1) * self.mask[None] + self.places[None]
        self.count[...] = self.count[...] + 1
        self.seen[...] = x[0, :4]
        x = self.layer(x)
        for layer in self.inner:
            x = layer(x)
        return x


def test_arrays_without_a_variable_are_kept():
    network = networks.from_nnx(Kept)
    params, state = network.init(RNG, X)
    assert set(params) == {"layer", "inner"}
    assert set(state) == {"count"}
    y, new = jit(functools.partial(network.apply, train=True))(params, state, X)
    x = np.asarray(X) * (np.arange(6) > 2) + np.linspace(0, 1, 6)
    for layer in (params["layer"], *(params["inner"][str(i)] for i in range(11))):
        x = x @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5)
    assert (int(state["count"]), int(new["count"])) == (0, 1)
    pieces = {
        "method": methods.simclr(network, networks.mlp(out=4)),
        "augment": augment.views(lambda rng, x: x + jax.random.normal(rng, x.shape)),
        "optimizer": optax.adam(1e-3),
    }
    batch = {"index": jnp.arange(16), "image": X.reshape(16, 3, 2, 1)}
    start = train.init_train_state(RNG, batch, **pieces)
    state, metrics = jit(functools.partial(train.train_step, **pieces))(start, batch)
    assert metrics["nonfinite"] == 0
    assert int(state.state["encoder"]["count"]) == 1


def test_a_variable_made_by_a_call_is_named():
    class Late(nnx.Module):
        def __call__(self, x):
            self.last = nnx.BatchStat(jnp.mean(x))
            return x

    with pytest.raises(UsageError, match=r"Late: a call makes or removes \['last'\]"):
        networks.from_nnx(lambda rngs: Late()).init(RNG, X)


def test_any_error_of_a_module_is_one_line():
    def make(rngs):
        return nnx.Conv(3, 4, kernel_size=(3, 3), padding="X", rngs=rngs)

    x = jnp.ones((2, 8, 8, 3))
    with pytest.raises(UsageError, match="Conv: it cannot take inputs") as error:
        networks.from_nnx(make).init(RNG, x)
    assert "\n" not in str(error.value)


class Told(nnx.Module):
    """Two blocks that tell what they return; an attribute is called as a layer is."""

    def __init__(self, *, rngs):
        self.layer1 = nnx.Linear(6, 8, rngs=rngs)
        self.block = Inner(rngs=rngs)

    def __call__(self, x):
        x = self.layer1(x)
        networks.tell(self, 1, x)
        return self.block(x)


class Inner(nnx.Module):
    """Eleven layers, the last within another trace."""

    def __init__(self, *, rngs):
        self.linear = nnx.Linear(8, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for number in range(1, 11):
            x = nnx.relu(self.linear(x)) + 1
            networks.tell(self, number, x)

        @nnx.remat
        def last(block, x):
            x = block.drop(jnp.tanh(x))
            networks.tell(block, 11, x)
            return x

        return last(self, x)


@pytest.mark.parametrize("jitted", [False, True])
def test_layers_are_those_it_tells(jitted):
    network = networks.from_nnx(lambda rngs: Told(rngs=rngs))
    params, state = network.init(RNG, X)
    layers, apply = network.layers, functools.partial(network.apply, train=False)
    found = (jit(layers) if jitted else layers)(params, state, X)
    assert set(found) == {f"layer{i}" for i in range(1, 13)}
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), params)
    x = np.asarray(X) @ p["layer1"]["kernel"] + p["layer1"]["bias"]
    expected = [x]
    for _ in range(10):
        x = np.maximum(x @ p["block"]["linear"]["kernel"], 0) + 1
        expected.append(x)
    expected.append(np.tanh(x))
    for i, value in enumerate(expected, start=1):
        assert found[f"layer{i}"].dtype == jnp.float32
        np.testing.assert_allclose(found[f"layer{i}"], value, rtol=2e-5, atol=1e-5)
    y, after = (jit(apply) if jitted else apply)(params, state, X)
    np.testing.assert_allclose(found["layer12"], y, rtol=1e-6)
    assert after.keys() == state.keys()


def test_a_step_has_no_trace_of_layers():
    network = networks.from_nnx(lambda rngs: Told(rngs=rngs))
    params, state = network.init(RNG, X)
    train = functools.partial(network.apply, train=True, rng=RNG)
    assert jax.eval_shape(train, params, state, X)[1] == {}
    assert "reduce_sum" not in str(jax.make_jaxpr(train)(params, state, X[:, None]))
    told = str(jax.make_jaxpr(network.layers)(params, state, X[:, None]))
    assert "reduce_sum" in told


def test_layers_are_nothing_where_none_is_told():
    network = net()
    params, state = network.init(RNG, X)
    assert network.layers is not None
    assert network.layers(params, state, X) == {}

"""What networks tell of their blocks, and methods of their encoders."""

import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from reference import assert_close

from rl_jax import augment, data, methods, networks, run
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Network, TrainState

RNG = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
TOKENS = np.array([[3, 4, 5, 0], [6, 0, 0, 0], [7, 8, 9, 3]], np.int32)
NETWORKS = {
    "mlp": (networks.mlp(features=(6, 5), out=4), IMAGES, [6, 5]),
    "convnet": (networks.convnet(widths=(4, 6)), IMAGES, [4, 6]),
    "resnet": (
        networks.resnet(depth=18, stem="cifar", width=2, zero_init_residual=False),
        IMAGES,
        [2, 2, 4, 8, 16],
    ),
    "bottlenecks": (networks.resnet(depth=50, width=1), IMAGES, [1, 4, 8, 16, 32]),
    "vit": (networks.vit(patch=4, width=8, depth=3, heads=2), IMAGES, [8, 8, 8]),
    "text": (
        networks.text_transformer(vocab_size=10, length=4, width=8, depth=2, heads=2),
        TOKENS,
        [8, 8],
    ),
}


def started(network, x):
    """Parameters and statistics that are not those of the start."""
    params, state = jax.tree.map(np.asarray, jax.jit(network.init)(RNG, x))
    leaves, tree = jax.tree.flatten(state)
    moved = [leaf + np.float32(0.1 * (i % 3 + 1)) for i, leaf in enumerate(leaves)]
    return params, jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_for_each_block_in_order(name):
    network, x, widths = NETWORKS[name]
    params, state = jax.eval_shape(network.init, RNG, x)
    found = jax.eval_shape(network.layers, params, state, x)
    assert list(found) == [f"layer{i + 1}" for i in range(len(widths))]
    assert [v.shape for v in found.values()] == [(3, width) for width in widths]
    assert {v.dtype for v in found.values()} == {jnp.dtype("float32")}
    # What the modules note is no variable of the network.
    assert set(state) <= {"batch_stats"}


@pytest.mark.parametrize("name", NETWORKS)
def test_training_has_no_trace_of_them(name, monkeypatch):
    """The jaxpr of a step is that of modules that note nothing."""
    network, x, _ = NETWORKS[name]
    params, state = jax.eval_shape(network.init, RNG, x)

    def step():
        run = functools.partial(network.apply, train=True)
        return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(run)(params, state, x)))

    telling = step()
    for file in ("mlp", "convnet", "resnet", "transformer"):
        module = importlib.import_module(f"rl_jax.networks.{file}")
        monkeypatch.setattr(module, "tell", lambda *_: None)
    assert telling == step()


def test_mlp_equals_the_pass_by_hand():
    network, x, _ = NETWORKS["mlp"]
    params, state = started(network, x)
    found = jax.jit(network.layers)(params, state, x)
    a = x.reshape(3, -1)
    for i in range(2):
        norm, running = (t[f"BatchNorm_{i}"] for t in (params, state["batch_stats"]))
        a = a @ np.asarray(params[f"Dense_{i}"]["kernel"])
        a = (a - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        a = np.maximum(a * norm["scale"] + norm["bias"], 0)
        assert_close(found[f"layer{i + 1}"], a, tolerance=1e-6)
    y, _ = network.apply(params, state, x, train=False)
    last = params["Dense_2"]
    assert_close(y, a @ np.asarray(last["kernel"]) + last["bias"], tolerance=1e-6)


@pytest.mark.parametrize("name", ["convnet", "resnet"])
def test_the_last_block_pooled_is_h(name):
    network, x, widths = NETWORKS[name]
    params, state = started(network, x)
    y, found = jax.jit(
        lambda *a: (network.apply(*a, train=False)[0], network.layers(*a))
    )(params, state, x)
    np.testing.assert_array_equal(found[f"layer{len(widths)}"], y)
    assert all(np.isfinite(v).all() for v in found.values())
    assert len({v.tobytes() for v in map(np.asarray, found.values())}) == len(widths)


def test_the_first_block_of_a_resnet_is_its_stem():
    network, x, _ = NETWORKS["resnet"]
    params, state = started(network, x)
    stem = nn.Conv(2, (3, 3), padding=1, use_bias=False)
    a = stem.apply({"params": params["stem"]}, x)
    norm, running = params["stem_norm"], state["batch_stats"]["stem_norm"]
    a = (np.asarray(a) - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    a = np.maximum(a * norm["scale"] + norm["bias"], 0)
    found = network.layers(params, state, x)["layer1"]
    assert_close(found, a.mean((1, 2)), tolerance=1e-6)


def test_padding_is_not_in_the_mean():
    network, x, _ = NETWORKS["text"]
    params, state = started(network, x)
    layers = jax.jit(network.layers)
    whole, alone = (layers(params, state, rows) for rows in (x, x[:1, :3]))
    for name, value in alone.items():
        assert_close(whole[name][:1], value, tolerance=1e-5)


def test_recomputed_blocks_tell_the_same():
    network, x, _ = NETWORKS["text"]
    again = networks.text_transformer(
        vocab_size=10, length=4, width=8, depth=2, heads=2, remat=True
    )
    params, state = started(network, x)
    found, expected = (jax.jit(n.layers)(params, state, x) for n in (again, network))
    assert_close(found, expected, tolerance=1e-5)


def test_chains_count_on_and_micro_batches_pass_on():
    first, second = networks.mlp(features=(6, 5), out=4), networks.linear(out=3)
    third = networks.mlp(features=(2,), out=2)
    both = networks.chain(a=first, b=second, c=third)
    params, state = started(both, IMAGES)
    found = jax.jit(both.layers)(params, state, IMAGES)
    assert [v.shape[1] for v in found.values()] == [6, 5, 2]
    own = jax.jit(first.layers)(params["a"], state["a"], IMAGES)
    assert_close(found["layer2"], own["layer2"], tolerance=1e-6)
    assert list(found) == ["layer1", "layer2", "layer3"]
    assert micro_batched(first, 1).layers is first.layers


def test_a_network_that_tells_nothing_has_no_layers():
    silent = Network(lambda rng, x: ({}, {}), lambda p, s, x, **_: (x, s))
    assert networks.layers_of(silent, {}, {}, IMAGES) == {}
    x = IMAGES[:, 0, :, 0]
    linear = networks.linear(out=3)
    assert networks.layers_of(linear, *linear.init(RNG, x), x) == {}


def test_modules_of_others_tell_by_the_same_function():
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = 2 * x
            networks.tell(self, 1, x)
            return x

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            del train
            for i in range(10):
                x = x + 1
                networks.tell(self, i + 1, x)
            return Inner()(x)

    network = networks.from_linen(Outer())
    found = network.layers({}, {}, np.zeros((2, 5, 3), np.float32))
    values = [float(v[0, 0]) for v in found.values()]
    assert values == [*range(1, 11), 20]
    assert list(found)[-2:] == ["layer10", "layer11"]


def test_layers_are_in_order_after_jit():
    names = sorted(["h", "z", *(f"layer{i}" for i in range(1, 13)), "layered"])
    assert networks.in_order(names) == [f"layer{i}" for i in range(1, 13)]


@pytest.fixture(scope="module")
def simclr():
    """A method, its parameters and a batch."""
    method = methods.simclr(
        networks.convnet(widths=(4, 6)), networks.projection_head(hidden=8, out=4)
    )
    batch = {"image": IMAGES, "views": np.stack([IMAGES, IMAGES], axis=1)}
    return method, *method.init(RNG, batch), batch


def test_encode_has_them_beside_h_and_z(simclr):
    method, params, state, batch = simclr
    found = method.encode(params, state, batch)
    assert list(found) == ["h", "z", "layer1", "layer2"]
    np.testing.assert_array_equal(found["layer2"], found["h"])


def test_the_compiler_runs_one_pass_for_both(simclr):
    method, params, state, _ = simclr
    # So many positions that they stay convolutions.
    batch = {"image": np.zeros((2, 20, 20, IMAGES.shape[-1]), np.float32)}

    def convolutions(f):
        compiled = jax.jit(f).lower(params, state, batch).compile().as_text()
        return compiled.count("convolution(")

    def picked(*a):
        return {k: v for k, v in method.encode(*a).items() if k in ("h", "z")}

    assert convolutions(method.encode) == convolutions(picked) == 2


def test_a_run_gives_them_where_they_are_asked_for(simclr):
    method, params, state, _ = simclr
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    arrays = data.arrays(pixels)
    trained = TrainState(0, RNG, params, state, None)
    views = augment.digits()
    plain = run.encode(method, views, trained, arrays, batch_size=4)
    told = run.encode(method, views, trained, arrays, batch_size=4, layers=True)
    assert list(plain) == ["h", "z"]
    assert list(told) == ["h", "z", "layer1", "layer2"]
    assert told["layer1"].shape == (5, 4)
    for name, value in plain.items():
        np.testing.assert_array_equal(told[name], value)

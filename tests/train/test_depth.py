"""Rates by the depth of a parameter, against exponents written by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_jax import methods, networks, train
from rl_jax.errors import UsageError
from rl_jax.train.depth import scale_by_depth

VIT = networks.vit(patch=4, width=16, depth=3, heads=2, pool="cls", positions="learned")
RATES = {"total_steps": 10, "learning_rate": 0.1, "weight_decay": 0.3}


def params_of(encoder, *, probe=False, side=8):
    """Ones in the shapes of a method's parameters."""
    method = methods.supervised(encoder, num_classes=3)
    if probe:
        method = methods.with_probe(method, num_classes=3)
    image = np.zeros((2, side, side, 3), np.float32)
    batch = {"image": image, "label": np.zeros(2, int), "index": np.arange(2)}
    params, _ = jax.eval_shape(method.init, jax.random.key(0), batch)
    return jax.tree.map(lambda p: np.ones(p.shape, np.float32), params)


def by_path(params):
    found = jax.tree_util.tree_leaves_with_path(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x)
        for path, x in found
    }


def shares(params, *, layer_decay=1.0, embed_rate=1.0):
    """By what an update of ones is multiplied, for each parameter."""
    scale = scale_by_depth("test", layer_decay=layer_decay, embed_rate=embed_rate)
    updates, _ = scale.update(params, scale.init(params))
    found = by_path(updates)
    assert all(np.ptp(x) == 0 for x in found.values())
    return {path: float(x.flat[0]) for path, x in found.items()}


def moved(params, **arguments):
    """What two steps of AdamW change, by path."""
    optimizer = train.adamw(**(RATES | arguments))
    state, after = optimizer.init(params), params
    for size in (1.0, -0.5):
        gradients = jax.tree.map(lambda p, size=size: size * jnp.ones_like(p), params)
        updates, state = optimizer.update(gradients, state, after)
        after = jax.tree.map(jnp.add, after, updates)
    return by_path(jax.tree.map(jnp.subtract, after, params))


@pytest.mark.parametrize("probe", [False, True])
def test_of_a_transformer(probe):
    """BEiT's exponents: embeddings L + 1, block i L + 1 − i, what is behind them 0."""
    found = shares(params_of(VIT, probe=probe), layer_decay=0.5)
    exponents = {"embed": 4, "cls": 4, "positions": 4, "norm": 0, "classifier": 0}
    exponents |= {"block1": 3, "block2": 2, "block3": 1, "probe": 0}
    seen = set()
    for path, share in found.items():
        (name,) = (n for n in path.split("/") if n in exponents)
        seen.add(name)
        assert share == pytest.approx(0.5 ** exponents[name], rel=1e-6), path
    assert seen == exponents.keys() - (set() if probe else {"probe"})


def test_of_a_residual_network():
    """Stages and blocks in the order in which they run, also from ten on."""
    encoder = networks.resnet(depth=18, stem="cifar", width=8)
    found = shares(params_of(encoder), layer_decay=0.8)
    order = [f"stage{s}_block{b}" for s in range(1, 5) for b in range(1, 3)]
    for path, share in found.items():
        name = path.split("/")[1]
        if path.startswith("classifier"):
            exponent = 0
        elif name.startswith("stem"):
            exponent = 9
        else:
            exponent = 8 - order.index(name)
        assert share == pytest.approx(0.8**exponent, rel=1e-6), path


def test_blocks_are_numbers_not_words():
    """block10 is behind block9; a tower beside the encoder keeps its rate."""
    encoder = {
        f"block{i}": {"kernel": np.ones((2, 2), np.float32)} for i in range(1, 12)
    }
    params = {"encoder": {"transformer": encoder}, "text": {"transformer": encoder}}
    for path, share in shares(params, layer_decay=0.5).items():
        number = int(path.split("/")[2].removeprefix("block"))
        exponent = 12 - number if path.startswith("encoder") else 0
        assert share == pytest.approx(0.5**exponent, rel=1e-6), path


def test_the_embedding_has_a_share_of_its_own():
    params = params_of(VIT)
    found = shares(params, layer_decay=0.5, embed_rate=0.2)
    for path, share in shares(params, layer_decay=0.5).items():
        of_embedding = path.startswith("encoder/embed/")
        expected = share * (0.2 if of_embedding else 1.0)
        assert found[path] == pytest.approx(expected, rel=1e-6), path


SMALL = {
    "encoder": {
        "embed": {"kernel": np.full((3, 2), 0.5, np.float32)},
        "block1": {"kernel": np.full((2, 2), 0.5, np.float32)},
    },
    "classifier": {"kernel": np.full((2, 3), 0.5, np.float32)},
}


@pytest.mark.parametrize("more", [{}, {"end_weight_decay": 0.4}])
def test_adamw_has_them_beside_its_own_decay(more):
    """The rate is smaller, and so its decay: updates are those of before, scaled."""
    optimizer = train.adamw(**RATES, **more, layer_decay=0.5, embed_rate=0.2)
    plain = train.adamw(**RATES, **more)
    factors = {"embed": 0.2 * 0.25, "block1": 0.5, "classifier": 1.0}
    state, other = optimizer.init(SMALL), plain.init(SMALL)
    for size in (1.0, -0.5):
        gradients = jax.tree.map(lambda p, size=size: size * jnp.ones_like(p), SMALL)
        updates, state = optimizer.update(gradients, state, SMALL)
        expected, other = plain.update(gradients, other, SMALL)
        expected = by_path(expected)
        for path, update in by_path(updates).items():
            (factor,) = (f for name, f in factors.items() if name in path)
            np.testing.assert_allclose(update, factor * expected[path], rtol=1e-6)
            assert np.all(update)


def test_an_embedding_that_stays():
    """Neither the gradient nor the decay moves it, and nothing else stays."""
    for path, change in moved(SMALL, embed_rate=0.0).items():
        assert np.any(change) != path.startswith("encoder/embed/"), path


def test_without_them_the_state_is_as_ever():
    params = params_of(VIT)
    one = train.adamw(**RATES, layer_decay=1.0, embed_rate=1.0).init(params)
    chex.assert_trees_all_equal_structs(one, train.adamw(**RATES).init(params))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\], got 0.0"),
        ({"layer_decay": 1.5}, r"layer_decay must be in \(0, 1\], got 1.5"),
        ({"embed_rate": -0.1}, r"embed_rate must be in \[0, 1\], got -0.1"),
        ({"embed_rate": float("nan")}, r"embed_rate must be in \[0, 1\], got nan"),
    ],
)
def test_refuses_values_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        train.adamw(**RATES, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer_decay": 0.5}, "layer_decay=0.5 is of encoders whose blocks are named"),
        ({"embed_rate": 0.0}, "embed_rate=0.0 is of encoders with an embedding"),
    ],
)
def test_refuses_encoders_without_depth(arguments, message):
    params = params_of(networks.mlp(features=(4,), out=4))
    with pytest.raises(UsageError, match=message):
        train.adamw(**RATES, **arguments).init(params)

"""What every factory of a network has in common."""

import functools
import inspect
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.networks.kernels import scaled_normal
from rl_jax.networks.resnet import STAGES

RNG = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
ROWS = IMAGES.reshape(8, 64)[:, :16]
NETWORKS = {
    "mlp": (networks.mlp(features=(8,), out=4), IMAGES, 4),
    "convnet": (networks.convnet(widths=(4, 8)), IMAGES, 8),
    "resnet": (networks.resnet(stem="cifar", width=4), IMAGES, 8),
    "projection_head": (networks.projection_head(hidden=8, out=4), ROWS, 4),
    "prediction_head": (networks.prediction_head(hidden=8, out=4), ROWS, 4),
}
FACTORIES = [getattr(networks, name) for name in NETWORKS]


@pytest.mark.parametrize("name", NETWORKS)
def test_contract(name, monkeypatch):
    # Two stages of one block, strides and shortcut included, compile in seconds.
    monkeypatch.setitem(STAGES, 18, (1, 1))
    network, x, out = NETWORKS[name]
    params, state = network.init(RNG, x)
    chex.assert_tree_all_finite((params, state))
    kept = jax.tree.leaves((params, state))
    assert all(leaf.dtype == jnp.float32 and not leaf.weak_type for leaf in kept)
    # Scales that start at zero keep the gradient from the layers before them.
    params = jax.tree.map(lambda p: p + 0.1, params)

    @jax.jit
    def step(params, state, x):
        def loss(params):
            y, new = network.apply(params, state, x, train=True)
            weight = jnp.arange(1.0, out + 1)[None]
            return jnp.sum(jnp.sin(y) + y**2 * weight), (y, new)

        gradient, (y, new) = jax.grad(loss, has_aux=True)(params)
        return y, new, gradient, network.apply(params, new, x, train=False)[0]

    y, new, gradient, evaluated = step(params, state, x)
    assert (y.shape, y.dtype) == ((8, out), jnp.float32)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    chex.assert_tree_all_finite((y, new, gradient, evaluated))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), new, state)))
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.any(leaf), f"no gradient: {jax.tree_util.keystr(path)}"
    assert not np.allclose(y, evaluated)

    assert_close(network.apply(params, state, x, train=True), (y, new), tolerance=1e-4)


@pytest.mark.parametrize("factory", FACTORIES)
def test_arguments_can_be_flags(factory):
    """Keyword-only, with a default, a type and a line of documentation."""
    hints = typing.get_type_hints(factory)
    for name, parameter in inspect.signature(factory).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        assert name in hints
        assert f"{name}: " in (factory.__doc__ or "")


@pytest.mark.parametrize("factory", FACTORIES)
def test_split_reaches_every_batch_norm(factory, monkeypatch):
    """Two groups in one pass are two passes, for any depth of the network."""
    monkeypatch.setitem(STAGES, 18, (1, 1))
    arguments = {
        "mlp": {"features": (8, 8), "out": 4},
        "convnet": {"widths": (4, 8)},
        "resnet": {"stem": "cifar", "width": 4, "zero_init_residual": False},
        "projection_head": {
            "hidden": 8,
            "out": 4,
            "layers": 3,
            "final_batch_norm": True,
        },
        "prediction_head": {"hidden": 8, "out": 4},
    }[factory.__name__]
    whole, split = factory(**arguments), factory(**arguments, split=2)
    x = NETWORKS[factory.__name__][1]
    params, state = whole.init(RNG, x)
    halves = [
        whole.apply(params, state, half, train=True)[0] for half in np.split(x, 2)
    ]
    y, _ = split.apply(params, state, x, train=True)
    assert_close(y, np.concatenate(halves), tolerance=1e-4)
    with pytest.raises(UsageError, match="split=2 does not divide the batch of 7"):
        jax.eval_shape(functools.partial(split.apply, train=True), params, state, x[:7])


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (networks.mlp, {"out": 0}, "mlp: out must be at least 1, got 0"),
        (
            networks.mlp,
            {"features": (8, -1)},
            "features must be at least 1, got (8, -1)",
        ),
        (
            networks.mlp,
            {"features": 64},
            "features must be a tuple of integers, as (64, 128), got 64",
        ),
        (networks.mlp, {"features": "64"}, "must be a tuple of integers"),
        (networks.conv_decoder, {"shape": (8, 8, 1), "widths": 4}, "widths must be a"),
        (networks.resnet, {"width": 64.5}, "resnet: width must be an integer, got 64"),
        (networks.vit, {"width": "a"}, "vit: width must be an integer, got 'a'"),
        (networks.vit, {"patch": 16.0}, "vit: patch must be an integer, got 16.0"),
        (networks.vit, {"mlp_ratio": np.inf}, "mlp_ratio must leave a hidden layer of"),
        (networks.mlp, {"split": 0}, "mlp: split must be at least 1"),
        (
            networks.mlp,
            {"activation": "sin"},
            "one of relu, gelu, silu, tanh, got 'sin'",
        ),
        (networks.convnet, {"widths": ()}, "convnet: widths must name at least one"),
        (networks.convnet, {"widths": (0,)}, "convnet: widths must be at least 1"),
        (networks.resnet, {"depth": 20}, "one of 18, 34, 50, 101, 152, got 20"),
        (networks.resnet, {"stem": "tiny"}, "stem must be one of imagenet, cifar"),
        (
            networks.resnet,
            {"dtype": "float16"},
            "dtype must be one of float32, bfloat16",
        ),
        (networks.resnet, {"width": 0}, "resnet: width must be at least 1, got 0"),
        (networks.projection_head, {"layers": 0}, "projection_head: layers must be"),
        (networks.projection_head, {"activation": ""}, "projection_head: activation"),
        (networks.prediction_head, {"hidden": 0}, "prediction_head: hidden must be"),
        (networks.prediction_head, {"activation": ""}, "prediction_head: activation"),
    ],
)
def test_arguments_out_of_range(factory, arguments, message):
    with pytest.raises(UsageError) as error:
        factory(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_sequences_other_than_tuples_do():
    """As a file of settings holds them."""
    network = networks.chain(
        a=networks.convnet(widths=[4]), b=networks.mlp(features=[])
    )
    jax.eval_shape(network.init, RNG, IMAGES)


@pytest.mark.parametrize(("fan", "variance"), [("in", 2 / 288), ("out", 2 / 576)])
def test_kernels_have_the_variance_they_should(fan, variance):
    kernel = scaled_normal(2.0, fan=fan)(RNG, (3, 3, 32, 64))
    assert np.var(kernel) == pytest.approx(variance, rel=0.05)
    assert abs(np.mean(kernel)) < 0.03 * variance**0.5

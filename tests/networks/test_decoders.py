"""Decoders: from a code back to the shape of the data."""

import inspect
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference.compiled import networks

from rl_jax.errors import UsageError

RNG = jax.random.key(0)
CODES = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
FACTORIES = [networks.conv_decoder, networks.mlp_decoder]
DECODERS = {
    "mlp": networks.mlp_decoder(shape=(8, 8, 1), features=(7,)),
    "mlp of rows": networks.mlp_decoder(shape=(2,), features=(7, 7), activation="silu"),
    "mlp linear": networks.mlp_decoder(shape=(3, 4), features=()),
    "mlp batch norm": networks.mlp_decoder(shape=(2,), features=(7,), batch_norm=True),
    "conv": networks.conv_decoder(shape=(8, 12, 3), widths=(6, 5, 4)),
    "conv of one": networks.conv_decoder(shape=(3, 5, 1), widths=(6,)),
    "conv batch norm": networks.conv_decoder(
        shape=(4, 4, 2), widths=(6, 5), batch_norm=True
    ),
}
SHAPES = {
    "mlp": (8, 8, 1),
    "mlp of rows": (2,),
    "mlp linear": (3, 4),
    "mlp batch norm": (2,),
    "conv": (8, 12, 3),
    "conv of one": (3, 5, 1),
    "conv batch norm": (4, 4, 2),
}


@pytest.mark.parametrize("name", DECODERS)
def test_contract(name):
    """Shape and dtype, gradients everywhere, state kept, the same without jit."""
    network = DECODERS[name]
    params, state = network.init(RNG, CODES)
    kept = jax.tree.leaves((params, state))
    assert all(leaf.dtype == jnp.float32 and not leaf.weak_type for leaf in kept)

    @jax.jit
    def step(params, state, z):
        def loss(params):
            y, new = network.apply(params, state, z, train=True)
            return jnp.sum(jnp.sin(3 * y)), (y, new)

        gradient, (y, new) = jax.grad(loss, has_aux=True)(params)
        return y, new, gradient

    y, new, gradient = step(params, state, CODES)
    assert (y.shape, y.dtype) == ((6, *SHAPES[name]), jnp.float32)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert bool(state) == ("batch norm" in name)
    chex.assert_tree_all_finite((y, gradient))
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.any(leaf), f"no gradient: {jax.tree_util.keystr(path)}"
    assert_close(network.apply(params, state, CODES, train=True)[0], y, tolerance=1e-4)


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_examples_do_not_meet(name):
    network = DECODERS[name]
    params, state = network.init(RNG, CODES)
    whole, _ = network.apply(params, state, CODES, train=True)
    first, _ = network.apply(params, state, CODES[:2], train=True)
    assert_close(first, whole[:2], tolerance=1e-5)


def test_conv_decoder_equals_the_formula():
    """Linear, ReLU, each pixel twice, convolution with a border of zeros, and again."""
    network = networks.conv_decoder(shape=(4, 4, 2), widths=(3, 2))
    params, state = network.init(RNG, CODES)
    params = jax.tree.map(lambda p: p + 0.1, params)
    y, _ = network.apply(params, state, CODES, train=False)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def convolution(x, name):
        kernel, bias = p[name]["kernel"], p[name]["bias"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = x.shape[1:3]
        return bias + sum(
            padded[:, i : i + height, j : j + width] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )

    x = CODES.astype(np.float64) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    x = np.maximum(x.reshape(6, 2, 2, 3), 0)
    x = np.kron(x, np.ones((1, 2, 2, 1)))
    x = np.maximum(convolution(x, "Conv_0"), 0)
    assert_close(y, convolution(x, "Conv_1"), tolerance=1e-5)


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_outputs_start_of_the_size_of_their_codes(name):
    """Kernels are scaled by their inputs: what comes out is neither 0 nor huge."""
    z = jax.random.normal(RNG, (64, 32))
    make = {
        "mlp": lambda: networks.mlp_decoder(shape=(8, 8, 1)),
        "conv": lambda: networks.conv_decoder(shape=(8, 8, 1)),
    }
    network = make[name]()
    params, state = network.init(RNG, z)
    y, _ = jax.jit(lambda p, s, z: network.apply(p, s, z, train=False))(
        params, state, z
    )
    assert 0.3 < float(jnp.std(y)) < 3


@pytest.mark.parametrize("factory", FACTORIES)
def test_arguments_can_be_flags(factory):
    """All but the shape, which follows from the data, have a default."""
    hints = typing.get_type_hints(factory)
    for name, parameter in inspect.signature(factory).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert (parameter.default is parameter.empty) == (name == "shape")
        assert name in hints
        assert f"{name}: " in (factory.__doc__ or "")


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (networks.mlp_decoder, {"shape": ()}, "mlp_decoder: shape must have at least"),
        (networks.mlp_decoder, {"shape": (8, 0)}, "shape must be at least 1"),
        (networks.mlp_decoder, {"shape": (2,), "features": (0,)}, "features must be"),
        (networks.mlp_decoder, {"shape": (2,), "activation": "sin"}, "got 'sin'"),
        (networks.conv_decoder, {"shape": (8,)}, "must be (H, W, C), got (8,)"),
        (networks.conv_decoder, {"shape": (8, 8, 1), "widths": ()}, "widths must name"),
        (networks.conv_decoder, {"shape": (8, 8, 1), "widths": (4, 0)}, "at least 1"),
        (networks.conv_decoder, {"shape": (6, 8, 1)}, "multiples of 4, got shape (6,"),
        (networks.conv_decoder, {"shape": (8, 2, 1)}, "multiples of 4, got shape (8,"),
    ],
)
def test_arguments_out_of_range(factory, arguments, message):
    with pytest.raises(UsageError) as error:
        factory(**arguments)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{factory.__name__}: ")
    assert "\n" not in str(error.value)


def test_sequences_other_than_tuples_do():
    """As a file of settings holds them."""
    network = networks.chain(
        a=networks.mlp_decoder(shape=[4], features=[3]),
        b=networks.conv_decoder(shape=[2, 2, 1], widths=[4, 4]),
    )
    jax.eval_shape(network.init, RNG, CODES)

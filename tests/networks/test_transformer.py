"""What the blocks keep, whatever is made of them: precision, memory, masks."""

import functools
import inspect
import math
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from scipy import special

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.networks.dropout import dropout
from rl_jax.networks.transformer import Block, Transformer, gelu

RNG = jax.random.key(0)
FACTORIES = [
    networks.text_transformer,
    networks.vit,
    networks.mae_decoder,
    networks.jepa_predictor,
]
IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
TOKENS = np.random.default_rng(0).integers(1, 20, (4, 6)).astype(np.int32)


def made(factory, **arguments):
    """A small network, its parameters and an input."""
    if factory is networks.text_transformer:
        network = factory(vocab_size=20, length=6, width=16, **arguments)
        x = jnp.asarray(TOKENS)
    elif factory is networks.vit:
        network = factory(patch=2, width=16, heads=4, **{"depth": 2} | arguments)
        x = jnp.asarray(IMAGES)
    else:
        network = factory(width=16, **arguments)
        places = jnp.broadcast_to(networks.patch_positions(4, 4)[None], (4, 16, 2))
        x = networks.Masked(jnp.asarray(IMAGES.reshape(4, 8, 8)), places[:, :8],
                            places[:, 8:])  # fmt: skip
    return network, *network.init(RNG, x), x


@pytest.mark.parametrize("factory", FACTORIES)
def test_contract(factory):
    network, params, state, x = made(factory)
    assert state == {}
    assert network.split == 1
    kept = jax.tree.leaves(params)
    assert all(leaf.dtype == jnp.float32 and not leaf.weak_type for leaf in kept)
    chex.assert_tree_all_finite(params)

    @jax.jit
    def step(params):
        def loss(params):
            y, _ = network.apply(params, state, x, train=True)
            return jnp.sum(jnp.sin(y) + y**2), y

        return jax.grad(loss, has_aux=True)(params)

    gradient, y = step(params)
    assert y.dtype == jnp.float32
    assert y.shape[0] == 4
    # The predictor is as wide as the tokens that it is given.
    assert y.shape[-1] == (8 if factory is networks.jepa_predictor else 16)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf), f"no gradient: {jax.tree_util.keystr(path)}"
    evaluated, _ = jax.jit(functools.partial(network.apply, train=False))(
        params, state, x
    )
    assert_close(evaluated, y, tolerance=1e-5)


NOISY = [
    (networks.text_transformer, {"dropout": 0.3}),
    (networks.vit, {"dropout": 0.3}),
    (networks.vit, {"drop_path": 0.6, "depth": 4}),
]


@pytest.mark.parametrize(("factory", "arguments"), NOISY)
def test_noise_is_of_training_alone(factory, arguments):
    """And the same of one key, whether blocks are computed again or not."""
    network, params, state, x = made(factory, **arguments)
    clean, _ = network.apply(params, state, x, train=False)
    again = made(factory, remat=True, **arguments)[0]
    one, other = jax.random.split(RNG)

    def run(network, rng):
        y, _ = network.apply(params, state, x, train=True, rng=rng)
        return y

    y = run(network, one)
    assert_close(run(again, one), y, tolerance=1e-5)
    assert not np.allclose(y, clean, atol=1e-2)
    assert not np.allclose(y, run(network, other), atol=1e-2)
    with pytest.raises(UsageError, match="draws noise in training"):
        run(network, None)


def test_drop_path_grows_and_takes_whole_branches():
    """Of three blocks none of the first is dropped, half as much of the second."""
    rate, count = 0.6, 4096
    network, *_ = made(networks.vit, depth=3, drop_path=rate)
    image = jnp.broadcast_to(jnp.asarray(IMAGES[:1, :2, :2]), (count, 2, 2, 1))
    params, state = network.init(RNG, image)
    y, _ = network.apply(params, state, image, train=True, rng=jax.random.key(2))
    # One row for each way that branches can be dropped: 2⁴ of the last two blocks.
    rows, counts = np.unique(np.round(y, 3), axis=0, return_counts=True)
    assert len(rows) == 16
    second, third = np.array([0.3, 0.7]), np.array([0.6, 0.4])
    shares = functools.reduce(np.multiply.outer, [second, second, third, third])
    np.testing.assert_allclose(
        np.sort(counts / count), np.sort(shares.ravel()), atol=0.02
    )


def test_drop_path_of_a_single_block_is_its_own():
    network, params, state, x = made(networks.vit, depth=1, drop_path=0.9)
    y, _ = network.apply(params, state, x, train=True, rng=RNG)
    clean, _ = network.apply(params, state, x, train=False)
    assert not np.allclose(y, clean, atol=1e-2)


def test_dropout_is_right_in_expectation():
    """Each number, or each row, is 0 with probability p, else x / (1 − p)."""
    x = jnp.full((2000, 50), 3.0)
    for rows in (False, True):
        y = np.asarray(dropout(RNG, x, 0.3, rows=rows))
        dropped = y == 0
        np.testing.assert_allclose(y[~dropped], 3 / 0.7, rtol=1e-6)
        draws = 2000 if rows else 100_000
        assert abs(dropped.mean() - 0.3) < 5 * (0.21 / draws) ** 0.5
        assert (dropped == dropped[:, :1]).all() == rows
    half = dropout(RNG, x.astype(jnp.bfloat16), 0.3)
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("factory", FACTORIES)
def test_arguments_can_be_flags(factory):
    """Keyword-only, typed and documented; only the vocabulary has no default."""
    hints = typing.get_type_hints(factory)
    for name, parameter in inspect.signature(factory).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert (parameter.default is parameter.empty) == (name == "vocab_size")
        assert name in hints
        assert f"{name}: " in (factory.__doc__ or "")


@pytest.mark.parametrize("factory", FACTORIES)
def test_bfloat16_is_close_to_float32(factory):
    """Parameters and output stay float32; products are bfloat16."""
    network, params, state, x = made(factory)
    half, half_params, _, _ = made(factory, dtype="bfloat16")
    chex.assert_trees_all_equal(half_params, params)
    y, _ = network.apply(params, state, x, train=True)
    z, _ = half.apply(params, state, x, train=True)
    assert z.dtype == jnp.float32
    assert_close(z, y, tolerance=0.03)
    assert np.any(z != y)
    products = [
        equation.outvars[0].aval.dtype
        for equation in equations(
            jax.make_jaxpr(functools.partial(half.apply, train=True))(params, state, x)
        )
        if equation.primitive.name == "dot_general"
    ]
    # Scores of the attention are float32, one product for each block.
    depth = sum(name.startswith("block") for name in params["transformer"])
    assert products.count(jnp.float32) == depth
    assert products.count(jnp.bfloat16) >= 5 * depth


def equations(closed):
    """All equations of a program, those inside of others too."""
    for equation in closed.jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if isinstance(value, jax.extend.core.ClosedJaxpr):
                yield from equations(value)


@pytest.mark.parametrize("factory", FACTORIES)
def test_blocks_computed_again_change_nothing(factory):
    """Same parameters, same values and gradients."""
    (network, params, state, x), (again, same, _, _) = (
        made(factory),
        made(factory, remat=True),
    )
    chex.assert_trees_all_equal(same, params)

    def value(network, params):
        y, _ = network.apply(params, state, x, train=True)
        return jnp.sum(jnp.sin(y)), y

    expected, actual = (
        jax.jit(jax.grad(functools.partial(value, each), has_aux=True))(params)
        for each in (network, again)
    )
    assert_close(actual, expected, tolerance=1e-5)


@pytest.mark.slow
def test_blocks_computed_again_save_memory():
    """Of the compiled gradient of eight blocks, less than half."""
    x = jax.ShapeDtypeStruct((8, 64, 32), jnp.float32)
    sizes = {}
    for remat in (False, True):
        stack = Transformer(
            depth=8, heads=4, mlp_ratio=4.0, dtype="float32", remat=remat
        )
        network = networks.from_linen(stack)
        params, state = jax.eval_shape(network.init, RNG, x)

        def loss(params, x, network=network, state=state):
            return jnp.sum(network.apply(params, state, x, train=True)[0] ** 2)

        program = jax.jit(jax.grad(loss)).lower(params, x).compile()
        sizes[remat] = program.memory_analysis().temp_size_in_bytes
    assert sizes[True] < 0.5 * sizes[False]


def test_block_equals_the_formula():
    """Against NumPy in float64, with a mask."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 5, 8)).astype(np.float32)
    real = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], bool)
    block = Block(heads=2, mlp_ratio=2.0, dtype=jnp.float32)
    params = block.init(RNG, x, jnp.asarray(real))["params"]
    params = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape), params)
    y = block.apply({"params": params}, x, jnp.asarray(real))

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = x.astype(np.float64)

    def linear(name, x):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def norm(name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[name]["scale"] + p[name]["bias"]

    q, k, v = np.split(linear("qkv", norm("norm1", x)), 3, axis=-1)
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        score = np.einsum("bqd,bkd->bqk", q[..., h], k[..., h]) / 2
        weight = np.where(real[:, None], np.exp(score), 0)
        weight /= weight.sum(-1, keepdims=True)
        heads.append(weight @ v[..., h])
    x = x + linear("out", np.concatenate(heads, -1))
    hidden = linear("mlp1", norm("norm2", x))
    erf = np.vectorize(math.erf)
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    assert_close(y, x + linear("mlp2", hidden), tolerance=1e-5)


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (networks.text_transformer, {"vocab_size": 0}, "vocab_size must be at least"),
        (networks.text_transformer, {"length": 0}, "length must be at least 1, got 0"),
        (networks.text_transformer, {"heads": 5}, "got heads=5 and width=64"),
        (networks.text_transformer, {"pool": "max"}, "mean, first, last, none, got"),
        (networks.text_transformer, {"dtype": "float16"}, "float32, bfloat16, got"),
        (networks.text_transformer, {"mlp_ratio": 0.0}, "mlp_ratio must leave"),
        (networks.vit, {"size": "XL"}, "size must be one of Ti, S, B, L, got 'XL'"),
        (networks.vit, {"patch": 0}, "vit: patch must be at least 1, got 0"),
        (networks.vit, {"depth": 0}, "vit: depth must be at least 1, got 0"),
        (networks.vit, {"width": 100}, "got heads=6 and width=100"),
        (networks.vit, {"width": 6}, "width must be a multiple of 4"),
        (networks.vit, {"dropout": 1.0}, "vit: dropout must be in [0, 1), got 1.0"),
        (networks.vit, {"drop_path": -0.1}, "drop_path must be in [0, 1), got -0.1"),
        (networks.text_transformer, {"dropout": 2.0}, "text_transformer: dropout must"),
        (networks.vit, {"pool": "max"}, "pool must be one of mean, cls, none"),
        (networks.vit, {"positions": "none"}, "one of sincos, learned, got 'none'"),
        (networks.mae_decoder, {"width": 30, "heads": 3}, "a multiple of 4"),
        (networks.mae_decoder, {"depth": 0}, "mae_decoder: depth must be at least 1"),
        (networks.jepa_predictor, {"width": 30, "heads": 3}, "a multiple of 4"),
        (networks.jepa_predictor, {"heads": 3}, "jepa_predictor: heads must divide"),
    ],
)
def test_arguments_out_of_range(factory, arguments, message):
    if factory is networks.text_transformer:
        arguments = {"vocab_size": 10} | arguments
    with pytest.raises(UsageError) as error:
        factory(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_is_x_times_the_normal_distribution(dtype):
    x = np.linspace(-6, 6, 241).astype(np.float32)
    given = jnp.asarray(x, dtype)
    exact = np.asarray(given, np.float64)
    phi = 0.5 * special.erfc(-exact / np.sqrt(2))
    found = gelu(given)
    assert found.dtype == dtype
    tolerance = {"float32": 2e-6, "bfloat16": 1.6e-2}[dtype]
    np.testing.assert_allclose(
        np.asarray(found, np.float64), exact * phi, atol=tolerance
    )
    slope = jax.vmap(jax.grad(lambda v: gelu(v).astype(jnp.float32)))(given)
    density = np.exp(-(exact**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(
        np.asarray(slope, np.float64), phi + exact * density, atol=tolerance
    )

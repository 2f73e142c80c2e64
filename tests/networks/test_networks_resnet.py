"""Residual networks: sizes, geometry, start, and precision."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import assert_close
from reference.machine import temporary_bytes

from rl_jax import networks
from rl_jax.networks.resnet import STAGES, Block

RNG = jax.random.key(0)
# torchvision 0.20 without the classifier: parameters, and multiply-adds at 224 pixels.
PUBLISHED = {
    18: (11_176_512, 1.814e9 - 512e3),
    34: (21_284_672, 3.664e9 - 512e3),
    50: (23_508_032, 4.089e9 - 2048e3),
}


def convolutions(network, image):
    """(kernel size, stride, padding, dtype, multiply-adds) of each, in order."""
    params, state = jax.eval_shape(network.init, RNG, image)
    run = functools.partial(network.apply, train=False)
    found = []

    for equation in jax.make_jaxpr(run)(params, state, image).jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            size, _, inputs, _ = equation.invars[1].aval.shape
            stride, _ = equation.params["window_strides"]
            out = equation.outvars[0].aval
            work = out.size * size * size * inputs
            found.append((size, stride, equation.params["padding"], out.dtype, work))
    return found


@pytest.mark.parametrize("depth", PUBLISHED)
def test_as_large_as_the_published_networks(depth):
    network = networks.resnet(depth=depth)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params, _ = jax.eval_shape(network.init, RNG, image)
    count, products = PUBLISHED[depth]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    work = sum(row[-1] for row in convolutions(network, image))
    assert work == pytest.approx(products, abs=0.6e6)


@pytest.mark.parametrize("depth", PUBLISHED)
def test_geometry_of_the_convolutions(depth):
    image = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    found = convolutions(networks.resnet(depth=depth, width=4), image)
    for size, _, padding, *_ in found:
        assert padding == ((size // 2,) * 2,) * 2, "padding is symmetric"
    strided = sorted(size for size, stride, *_ in found if stride == 2)
    assert strided == [1, 1, 1, 3, 3, 3, 7], "shortcuts, 3×3 of a stage, stem"
    assert found[0][0] == 7


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize(("depth", "out"), [(18, 32), (34, 32), (50, 128)])
def test_shape_of_h(depth, out, stem):
    network = networks.resnet(depth=depth, stem=stem, width=4)
    image = jax.ShapeDtypeStruct((2, 33, 40, 1), jnp.float32)
    params, state = jax.eval_shape(network.init, RNG, image)
    h, _ = jax.eval_shape(
        functools.partial(network.apply, train=True), params, state, image
    )
    assert (h.shape, h.dtype) == ((2, out), jnp.float32)


def test_cifar_stem_keeps_the_resolution():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    found = convolutions(networks.resnet(stem="cifar", width=4), image)
    size, stride, _, _, products = found[0]
    assert (size, stride, products) == (3, 1, 32 * 32 * 4 * 27)
    # Convolutions of the four stages at 32, 16, 8 and 4 pixels, the same work each.
    assert found[1][-1] == found[-1][-1] == 32 * 32 * 4 * 36


@pytest.mark.parametrize("bottleneck", [False, True])
def test_blocks_start_as_their_shortcut(bottleneck):
    x = np.abs(np.random.default_rng(0).normal(size=(2, 4, 4, 8))).astype(np.float32)
    for zero, identity in ((True, True), (False, False)):
        block = networks.from_linen(
            Block(
                width=2 if bottleneck else 8,
                stride=1,
                bottleneck=bottleneck,
                dtype=jnp.float32,
                split=1,
                zero_init_residual=zero,
            )
        )
        params, state = block.init(RNG, x)
        assert "shortcut" not in params
        y, _ = block.apply(params, state, x, train=True)
        assert np.array_equal(y, x) is identity


def test_zero_init_residual_is_what_the_factory_passes(monkeypatch):
    monkeypatch.setitem(STAGES, 18, (1, 1))
    image = jnp.zeros((1, 8, 8, 1))
    for zero, blocks in ((True, 2), (False, 0)):
        network = networks.resnet(width=2, zero_init_residual=zero)
        params, _ = network.init(RNG, image)
        scales = [
            leaf
            for path, leaf in jax.tree.leaves_with_path(params)
            if jax.tree_util.keystr(path).endswith("['scale']")
        ]
        assert sum(not np.any(leaf) for leaf in scales) == blocks


def test_bfloat16_computes_in_bfloat16_and_keeps_float32(monkeypatch):
    monkeypatch.setitem(STAGES, 18, (1, 1))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 3)).astype(np.float32)
    make = functools.partial(networks.resnet, stem="cifar", width=4)
    full, half = make(), make(dtype="bfloat16")
    assert all(
        dtype == jnp.bfloat16 for *_, dtype, _ in convolutions(half, jnp.asarray(x))
    )
    params, state = half.init(RNG, x)
    exact = jax.jit(functools.partial(full.apply, train=True))(params, state, x)
    rough = jax.jit(functools.partial(half.apply, train=True))(params, state, x)
    kept = jax.tree.leaves((params, state, rough))
    assert all(leaf.dtype == jnp.float32 for leaf in kept)
    assert_close(rough, exact, tolerance=0.05)
    assert not np.array_equal(rough[0], exact[0])


def trained_alike(monkeypatch, **arguments):
    """What a network gives with blocks computed again, and without: a step, and its h.

    Gradients, value, statistics; h in evaluation, its layers.
    """
    monkeypatch.setitem(STAGES, 18, (1, 2))
    monkeypatch.setitem(STAGES, 50, (2,))
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    make = functools.partial(
        networks.resnet, stem="cifar", width=4, zero_init_residual=False, **arguments
    )
    found = []
    for remat in (False, True):
        network = make(remat=remat)
        params, state = network.init(RNG, x)

        def loss(params, x, network=network, state=state):
            y, new = network.apply(params, state, x, train=True)
            weight = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            return jnp.mean(weight * y), new

        step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        (value, new), gradients = step(params, x)
        h, _ = network.apply(params, new, x, train=False)
        layers = networks.layers_of(network, params, new, x)
        text = step.lower(params, x).as_text()
        found.append(((params, state), (gradients, value, new), (h, layers), text))
    return found


@pytest.mark.parametrize(
    "arguments", [{}, {"depth": 50, "split": 2}], ids=["basic", "bottleneck"]
)
@pytest.mark.parametrize("backend", ["cpu", "another"])
def test_blocks_computed_again_change_nothing(backend, arguments, monkeypatch):
    """Parameters and names, values, gradients, statistics moved once, evaluation."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    one, again = trained_alike(monkeypatch, **arguments)
    chex.assert_trees_all_equal(again[0], one[0])
    assert_close(again[1], one[1], tolerance=1e-4, floor=1e-3)
    assert_close(again[2], one[2], tolerance=1e-5)
    blocks = sum(name.startswith("stage") for name in one[0][0])
    products = [
        len(re.findall(r"stablehlo\.(?:convolution|dot_general)", each[3]))
        for each in (one, again)
    ]
    assert products[1] >= products[0] + 2 * blocks, "computed twice"
    waits = 0 if backend == "cpu" else blocks
    assert again[3].count("stablehlo.optimization_barrier") == waits


def test_blocks_computed_again_in_bfloat16(monkeypatch):
    one, again = trained_alike(monkeypatch, dtype="bfloat16")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(again[1]))
    assert_close(again[1][1:], one[1][1:], tolerance=1e-2)
    error = optax.tree.norm(optax.tree.sub(again[1][0], one[1][0]))
    assert error < 0.05 * optax.tree.norm(one[1][0])


@pytest.mark.parametrize(
    ("depth", "share"), [(18, 0.6), pytest.param(50, 0.4, marks=pytest.mark.slow)]
)
def test_blocks_computed_again_save_memory(depth, share):
    """Of the compiled gradient, on CPU, where XLA would rather begin with all at once.

    The input of a block is kept: of a basic one as large as each of some five arrays in
    it, of a bottleneck the largest of some eight.
    """
    x = jax.ShapeDtypeStruct((16, 16, 16, 3), jnp.float32)
    sizes = {}
    for remat in (False, True):
        network = networks.resnet(depth=depth, stem="cifar", width=8, remat=remat)
        params, state = jax.eval_shape(network.init, RNG, x)

        def loss(params, state, x, network=network):
            y, new = network.apply(params, state, x, train=True)
            return jnp.sum(jnp.sin(y)), new

        step = jax.value_and_grad(loss, has_aux=True)
        sizes[remat] = temporary_bytes(jax.jit(step).lower(params, state, x).compile())
    assert sizes[True] < share * sizes[False]


def test_evaluation_is_computed_once():
    """Without a step backward nothing is computed again."""
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    texts = []
    for remat in (False, True):
        network = networks.resnet(stem="cifar", width=4, remat=remat)
        params, state = jax.eval_shape(network.init, RNG, x)
        run = jax.jit(functools.partial(network.apply, train=False))
        texts.append(run.lower(params, state, x).as_text())
    assert texts[0] == texts[1]

"""Residual networks: sizes, geometry, start, and precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close

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

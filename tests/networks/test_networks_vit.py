"""Vision transformers and patches: sizes, geometry, parts of images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference.compiled import networks

from rl_jax.errors import UsageError
from rl_jax.networks.patches import sincos

RNG = jax.random.key(0)
IMAGES = np.random.default_rng(0).normal(size=(3, 6, 8, 2)).astype(np.float32)
# timm's vit_*_patch16_224 with its classifier of 1000 classes.
PUBLISHED = {"Ti": 5_717_416, "S": 22_050_664, "B": 86_567_656, "L": 304_326_632}


@pytest.mark.parametrize("size", PUBLISHED)
def test_as_large_as_the_published_networks(size):
    """With the classifier, and the position of the cls token, which ours has not."""
    network = networks.vit(size=size, positions="learned", pool="cls")
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params, _ = jax.eval_shape(network.init, RNG, image)
    width = params["cls"].shape[-1]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count + 1000 * (width + 1) + width == PUBLISHED[size]


def test_a_size_can_be_changed_in_part():
    network = networks.vit(size="B", width=32, depth=2, heads=4)
    params, _ = network.init(RNG, jnp.zeros((1, 32, 32, 3)))
    assert params["embed"]["kernel"].shape == (16 * 16 * 3, 32)
    assert sum(name.startswith("block") for name in params["transformer"]) == 2


def small(**arguments):
    return networks.vit(patch=2, width=16, depth=2, heads=2, **arguments)


@pytest.mark.parametrize("patch", [1, 2])
def test_patches_and_back(patch):
    patches = networks.patchify(IMAGES, patch)
    assert patches.shape == (3, 48 // patch**2, patch * patch * 2)
    back = networks.unpatchify(patches, patch, IMAGES.shape[1:])
    np.testing.assert_array_equal(back, IMAGES)
    again = networks.patchify(back, patch)
    np.testing.assert_array_equal(again, patches)


def test_patches_are_where_they_say():
    patches = np.asarray(networks.patchify(IMAGES, 2))
    for i, (row, column) in enumerate(networks.patch_positions(3, 4).tolist()):
        part = IMAGES[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patches[:, i], part.reshape(3, -1))


def test_embedding_of_patches_is_a_strided_convolution():
    network = small(pool="none", positions="learned")
    params, _ = network.init(RNG, IMAGES)
    embed = params["embed"]
    tokens = networks.patchify(IMAGES, 2) @ embed["kernel"] + embed["bias"][None, None]
    convolved = jax.lax.conv_general_dilated(
        IMAGES,
        embed["kernel"].reshape(2, 2, 2, 16),
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert_close(tokens, convolved.reshape(3, 12, 16), tolerance=1e-5)


def test_sincos_equals_the_formula():
    positions = np.array([[0, 0], [3, 5], [1, 13]])
    expected = np.zeros((3, 16))
    for n, (row, column) in enumerate(positions):
        for start, at in ((0, column), (8, row)):
            for i in range(4):
                angle = at * 10000 ** (-4 * i / 16)
                expected[n, start + i] = np.sin(angle)
                expected[n, start + 4 + i] = np.cos(angle)
    assert_close(sincos(jnp.asarray(positions), 16), expected, tolerance=1e-6)


@pytest.mark.parametrize("positions", ["sincos", "learned"])
@pytest.mark.parametrize("pool", ["mean", "cls", "none", "all"])
def test_an_image_is_all_its_patches(positions, pool):
    """In any order; their places go with them."""
    network = small(positions=positions, pool=pool)
    params, state = network.init(RNG, IMAGES)
    assert ("cls" in params) == (pool in ("cls", "all"))
    apply = jax.jit(functools.partial(network.apply, train=False))
    y, _ = apply(params, state, IMAGES)
    shapes = {"none": (3, 12, 16), "all": (3, 13, 16)}
    assert y.shape == shapes.get(pool, (3, 16))
    order = np.random.default_rng(1).permutation(12)
    # The cls token stays in front.
    among = {"none": order, "all": np.append(0, 1 + order)}
    reordered = y[:, among[pool]] if pool in among else y
    places = jnp.broadcast_to(networks.patch_positions(3, 4)[None], (3, 12, 2))
    patches = networks.Patches(networks.patchify(IMAGES, 2)[:, order], places[:, order])
    z, _ = apply(params, state, patches)
    assert_close(z, reordered, tolerance=1e-5)
    moved = patches._replace(positions=places)
    z, _ = apply(params, state, moved)
    assert np.max(np.abs(z - reordered)) > 1e-3


def test_all_begins_with_the_cls_token():
    one, every = small(pool="cls"), small(pool="all")
    params, state = one.init(RNG, IMAGES)
    assert_close(every.init(RNG, IMAGES)[0], params, tolerance=0.0)
    y, _ = one.apply(params, state, IMAGES, train=False)
    z, _ = every.apply(params, state, IMAGES, train=False)
    np.testing.assert_array_equal(z[:, 0], y)


def test_sincos_takes_images_of_any_size():
    network = small()
    params, state = network.init(RNG, IMAGES)
    y, _ = network.apply(params, state, jnp.zeros((3, 4, 10, 2)), train=False)
    assert y.shape == (3, 16)


def run(network, params, state, x):
    return jax.eval_shape(
        functools.partial(network.apply, train=False), params, state, x
    )


def test_refuses_other_images():
    network = small(positions="learned")
    params, state = network.init(RNG, IMAGES)
    with pytest.raises(UsageError, match="are those of 3×4 patches, got 2×2"):
        run(network, params, state, jnp.zeros((1, 4, 4, 2)))
    with pytest.raises(UsageError, match="patch=2 does not divide images of 5×8"):
        run(network, params, state, jnp.zeros((1, 5, 8, 2)))
    with pytest.raises(UsageError, match=r"images \[B, H, W, C\], got \(5, 8\)"):
        run(network, params, state, jnp.zeros((5, 8)))
    patches = networks.Patches(jnp.zeros((1, 2, 8)), jnp.zeros((1, 2, 2), jnp.int32))
    with pytest.raises(UsageError, match="initialise with images"):
        network.init(RNG, patches)
    with pytest.raises(UsageError, match=r"unpatchify: patches \(1, 2, 8\) of patch=2"):
        networks.unpatchify(jnp.zeros((1, 2, 8)), 2, (6, 8, 2))


def test_a_token_stands_for_what_is_hidden():
    """As if its patch were embedded to it; what the patch holds is not seen."""
    network = small(pool="none")
    params, state = network.init(RNG, IMAGES)
    places = jnp.broadcast_to(networks.patch_positions(3, 4)[None], (3, 12, 2))
    hidden = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 12)) < 0.5)
    apply = jax.jit(functools.partial(network.apply, train=False))
    cut = networks.patchify(IMAGES, 2)
    kernel, bias = params["embed"]["kernel"], params["embed"]["bias"]
    shown = np.random.default_rng(2).normal(size=8).astype(np.float32)
    x = networks.Patches(cut, places, hidden, shown @ kernel + bias)
    y, _ = apply(params, state, x)
    put_in = jnp.where(hidden[..., None], shown[None, None], cut)
    expected, _ = apply(params, state, networks.Patches(put_in, places))
    assert_close(y, expected, tolerance=1e-5)
    other = jnp.where(hidden[..., None], 7.0, cut)
    z, _ = apply(params, state, x._replace(values=other))
    np.testing.assert_array_equal(z, y)


@pytest.mark.parametrize("pool", ["mean", "cls", "none", "all"])
def test_registers_are_attended_and_not_returned(pool):
    plain, network = small(pool=pool), small(pool=pool, registers=3)
    params, state = network.init(RNG, IMAGES)
    registers = params.pop("registers")
    assert registers.shape == (1, 3, 16)
    assert 0 < np.abs(registers).max() < 0.05
    without = plain.init(RNG, IMAGES)[0]
    assert jax.tree.structure(params) == jax.tree.structure(without)
    y, _ = plain.apply(params, state, IMAGES, train=False)
    found = []
    for given in (registers, 5 * registers):
        z, _ = network.apply(params | {"registers": given}, state, IMAGES, train=False)
        assert z.shape == y.shape
        # Every token that is returned has seen them.
        apart = np.abs(z - y).max(-1)
        assert apart.min() > 1e-5
        found.append(z)
    assert np.abs(found[0] - found[1]).max(-1).min() > 1e-5
    # In any order: they have no place.
    z, _ = network.apply(
        params | {"registers": registers[:, ::-1]}, state, IMAGES, train=False
    )
    assert_close(z, found[0], tolerance=1e-5)


def test_patches_are_returned_in_their_places_beside_registers():
    network = small(pool="all", registers=2)
    params, state = network.init(RNG, IMAGES)
    y, _ = network.apply(params, state, IMAGES, train=False)
    order = np.random.default_rng(1).permutation(12)
    places = jnp.broadcast_to(networks.patch_positions(3, 4)[None], (3, 12, 2))
    cut = networks.Patches(networks.patchify(IMAGES, 2)[:, order], places[:, order])
    z, _ = network.apply(params, state, cut, train=False)
    assert_close(z, y[:, np.append(0, 1 + order)], tolerance=1e-5)


def test_no_registers_are_what_there_was():
    plain, none = small(pool="cls"), small(pool="cls", registers=0)
    one, other = (n.init(RNG, IMAGES)[0] for n in (plain, none))
    assert "registers" not in one
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("registers", "words"),
    [
        (-1, "vit: registers must be at least 0, got -1"),
        (1.5, "vit: registers must be an integer, got 1.5"),
    ],
)
def test_refuses_registers_that_are_no_number(registers, words):
    with pytest.raises(UsageError, match=words) as error:
        small(registers=registers)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("remat", [False, True])
def test_layers_are_means_without_registers(pool, remat):
    """Registers are there to be large, and no part of what a layer says of an image."""
    network = small(pool=pool, registers=2, remat=remat)
    params, state = network.init(jax.random.key(0), IMAGES)
    layers = networks.layers_of(network, params, state, IMAGES)
    # Without attention each token is by itself: what registers are cannot matter.
    still = jax.tree_util.tree_map_with_path(
        lambda path, x: 0 * x if "out" in jax.tree_util.keystr(path) else x, params
    )
    found = [
        networks.layers_of(network, still | {"registers": size * params["registers"]},
                           state, IMAGES)
        for size in (1, 1000)
    ]  # fmt: skip
    assert layers.keys() == found[0].keys() == {"layer1", "layer2"}
    for name in layers:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-6)
        assert np.any(layers[name] != found[0][name])

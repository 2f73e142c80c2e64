"""Weights of PyTorch's encoders give what they give there."""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from reference import assert_close, torch_encoders
from reference.compiled import compiled
from reference.torch_encoders import resnet_weights, vit_weights

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.networks.resnet import STAGES
from rl_jax.networks.vit import SIZES

RNG = jax.random.key(0)
DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(2, 6, 6, 3)).astype(np.float32)
LARGER = DRAW.normal(size=(2, 33, 38, 3)).astype(np.float32)


def ours(tensors, image, **changes):
    """What our network gives with the weights, and what was found."""
    found = networks.from_torch(tensors)
    made = getattr(networks, found.factory)(**found.arguments | changes)
    network = compiled(networks.pretrained(made, found.params, found.state))
    params, state = network.init(RNG, image)
    y, _ = network.apply(params, state, image, train=False)
    return y, found


VITS = {
    "cls": {},
    "gammas of timm and registers": {
        "scaled": "ls{}.gamma", "registers": 3, "width": 192,
    },
    "gammas of BEiT, no place of the cls token": {
        "scaled": "gamma_{}", "place_of_cls": False, "depth": 1,
    },
    "no cls token": {"cls": False, "depth": 1, "patch": 3, "side": 2},
    "no cls token, registers, a wide MLP": {
        "cls": False, "registers": 2, "hidden": 390, "depth": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", VITS)
def test_a_vision_transformer_computes_the_same(case):
    given = VITS[case]
    tensors = vit_weights(**given)
    width = tensors["norm.weight"].size
    tokens = torch_encoders.vit(tensors, IMAGES, heads=width // 64)
    y, found = ours(tensors, IMAGES)
    cls, registers = given.get("cls", True), given.get("registers", 0)
    expected = tokens[:, 0] if cls else tokens[:, registers:].mean(1)
    assert_close(y, expected, tolerance=1e-5)
    patch, depth = given.get("patch", 2), given.get("depth", 2)
    told = {"patch": patch, "positions": "learned", "pool": "cls" if cls else "mean"}
    told |= {"width": width, "depth": depth, "heads": width // 64}
    told |= {"registers": registers} if registers else {}
    ratio = found.arguments.pop("mlp_ratio", 4.0)
    assert int(width * ratio) == given.get("hidden", 4 * width)
    assert found.arguments == told
    assert found.factory == "vit"
    assert found.state == {}
    assert found.left_out == ()


def test_of_all_tokens_the_cls_token_is_first_and_no_register_among_them():
    tensors = vit_weights(registers=3, depth=1)
    tokens = torch_encoders.vit(tensors, IMAGES, heads=2)
    y, _ = ours(tensors, IMAGES, pool="all")
    assert_close(y, np.delete(tokens, (1, 2, 3), axis=1), tolerance=1e-5)


RESNETS = {
    "basic blocks": (18, {"blocks": (2, 1, 1, 1), "bottleneck": False}),
    "bottlenecks": (50, {"blocks": (1, 2, 1, 1), "bottleneck": True}),
    "a small stem": (
        34, {"blocks": (1, 1, 1, 1), "bottleneck": False, "stem": 3, "width": 8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RESNETS)
def test_a_resnet_computes_the_same(case, monkeypatch):
    depth, given = RESNETS[case]
    monkeypatch.setitem(STAGES, depth, given["blocks"])
    tensors = resnet_weights(**given)
    image = LARGER[:, :9, :10] if "stem" in given else LARGER
    y, found = ours(tensors, image)
    assert_close(y, torch_encoders.resnet(tensors, image), tolerance=1e-5)
    stem = "cifar" if "stem" in given else "imagenet"
    width = given.get("width", 4)
    assert found.arguments == {"depth": depth, "stem": stem, "width": width}
    assert (found.factory, found.left_out) == ("resnet", ())


def test_a_resnet_trains_on_with_blocks_computed_again(small_resnet):
    """The weights are those of either, and so is a pass in training."""
    x = LARGER[:, :9, :10]
    found = networks.from_torch(small_resnet)
    passes = []
    for remat in (False, True):
        made = networks.resnet(**found.arguments, remat=remat)
        network = compiled(networks.pretrained(made, found.params, found.state))
        params, state = network.init(RNG, x)
        passes.append((params, state, *network.apply(params, state, x, train=True)))
    same(passes[0][:2], passes[1][:2])
    assert_close(passes[1], passes[0], tolerance=1e-5)
    assert_close(
        ours(small_resnet, x, remat=True)[0], ours(small_resnet, x)[0], tolerance=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_known(size):
    width, depth, _ = SIZES[size]
    found = networks.from_torch(vit_weights(width=width, depth=depth, zeros=True))
    told = {"patch": 2, "positions": "learned", "pool": "cls", "size": size}
    assert found.arguments == told


@pytest.mark.parametrize(
    ("width", "heads"), [(1152, 16), (1280, 16), (1408, 16), (1664, 16), (32, 1)]
)
def test_heads_that_are_not_64_wide(width, heads):
    found = networks.from_torch(vit_weights(width=width, depth=1, zeros=True))
    assert found.arguments["heads"] == heads


@pytest.mark.parametrize("hidden", [4304, 488])
def test_a_hidden_layer_is_as_wide_as_it_was(hidden):
    """4304 of So400m; 488/112·112 is below 488 in float64."""
    width = 1152 if hidden == 4304 else 112
    tensors = vit_weights(width=width, depth=1, hidden=hidden, zeros=True)
    found = networks.from_torch(tensors)
    assert int(width * found.arguments["mlp_ratio"]) == hidden
    ratio = found.arguments["mlp_ratio"]
    assert math.isclose(ratio, hidden / width, rel_tol=1e-15)


@pytest.fixture
def small_resnet(monkeypatch):
    monkeypatch.setitem(STAGES, 18, (1, 1, 1, 1))
    return resnet_weights(blocks=(1, 1, 1, 1), bottleneck=False)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


BESIDE_VIT = (
    *("head.weight", "decoder_blocks.0.norm1.weight", "mask_token", "head_dist.bias"),
    *("decoder_embed.weight", "masked_embed"),
)
BESIDE_RESNET = (
    *("fc.weight", "projection_head.0.weight", "prototypes.weight"),
    *("projector.2.weight",),
)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
def test_what_is_before_and_beside_the_encoder_is_left_out(kind, prefix, small_resnet):
    if kind == "vit":
        tensors, beside = vit_weights(width=64, depth=1), BESIDE_VIT
    else:
        tensors, beside = small_resnet, BESIDE_RESNET
    alone = networks.from_torch(tensors)
    given = {prefix + k: v for k, v in tensors.items()}
    other = {prefix + name: np.ones(3, np.float32) for name in beside}
    if prefix:
        other |= {"module.queue": np.ones(3), "epoch": np.array(3)}
        given |= {"module.queue_bn.num_batches_tracked": np.array(3)}
    found = networks.from_torch(other | given)
    same(found._replace(left_out=()), alone)
    assert found.left_out == tuple(sorted(other))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_weights_become_float32(dtype, small_resnet):
    for tensors in (vit_weights(width=64, depth=1), small_resnet):
        given = {
            k: v.astype(dtype) if v.dtype == np.float32 else v
            for k, v in tensors.items()
        }
        found = networks.from_torch(given)
        leaves = jax.tree.leaves((found.params, found.state))
        assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
        rounded = {k: np.asarray(v, np.float32) for k, v in given.items() if v.shape}
        same(found, networks.from_torch(rounded))


class Lazy(Mapping):
    """Notes what is read of it."""

    def __init__(self, tensors):
        self.tensors, self.read = tensors, []

    def __getitem__(self, name):
        self.read.append(name)
        return self.tensors[name]

    def __iter__(self):
        return iter(self.tensors)

    def __len__(self):
        return len(self.tensors)


def test_only_what_is_needed_is_read(small_resnet):
    tensors = small_resnet
    lazy = Lazy(tensors | {"fc.weight": np.ones((2, 2), np.float32)})
    same(networks.from_torch(lazy)._replace(left_out=()), networks.from_torch(tensors))
    counts = {k for k in tensors if k.endswith("num_batches_tracked")}
    assert set(lazy.read) == tensors.keys() - counts


ONES = np.ones((4, 4), np.float32)
VIT = vit_weights(width=64, depth=3, side=2)
RESNET = resnet_weights(blocks=(1, 1, 1, 1), bottleneck=False)
FAULTS = {
    "two of one kind": (
        VIT, {f"m.{k}": v for k, v in VIT.items()}, (),
        "there are 2 encoders, by what is before their names: m., one without; keep",
    ),
    "two of two kinds": (
        VIT, {"student.layer1.0.conv1.weight": ONES}, (),
        "there are 2 encoders, by what is before their names: one without, student.",
    ),
    "unknown names": (
        {"a": ONES, "b": ONES}, {}, (),
        "names of no vision transformer of timm and no ResNet of torchvision, which "
        "have patch_embed.proj.weight or layer1.0.conv1.weight; got a, b",
    ),
    "nothing": ({}, {}, (), "expected names with arrays, as of a state_dict, got none"),
    "missing": (
        VIT, {}, ("blocks.1.norm2.bias",),
        "there is no blocks.1.norm2.bias, which its encoder needs",
    ),
    "a missing block": (
        VIT, {}, [k for k in VIT if "blocks.1" in k], "of blocks there are only 0, 2",
    ),
    "no block": (
        VIT, {}, [k for k in VIT if "blocks" in k], "there is no blocks.0.mlp.fc1",
    ),
    "no positions": (VIT, {}, ("pos_embed",), "there is no pos_embed, which"),
    "no last norm": (VIT, {}, ("norm.weight",), "there is no norm.weight, which"),
    "shape": (
        VIT, {"cls_token": ONES}, (),
        r"cls_token must be \[1, 1, 64\], got \[4, 4\]; its encoder is of another kind",
    ),
    "SwiGLU in one layer": (
        VIT, {f"blocks.{i}.mlp.fc2.weight": np.ones((64, 128), "f") for i in range(3)},
        (), r"blocks.0.mlp.fc2.weight must be \[64, 256\], got \[64, 128\]",
    ),
    "SwiGLU in two": (
        VIT, {"blocks.0.mlp.w12.weight": ONES}, ("blocks.0.mlp.fc1.weight",),
        "there is no blocks.0.mlp.fc1.weight",
    ),
    "integers": (
        VIT, {"norm.weight": np.ones(64, np.int32)}, (),
        "norm.weight must be of a float dtype, got int32",
    ),
    "positions": (
        VIT, {"pos_embed": np.ones((1, 7, 64), np.float32)}, (),
        "pos_embed must be of a square of patches, got 6",
    ),
    "patches": (
        VIT, {"patch_embed.proj.weight": np.ones((64, 3, 2, 4), np.float32)}, (),
        "patches must be square, got 2×4",
    ),
    "norms of queries": (
        VIT, {"blocks.0.attn.q_norm.weight": ONES, "blocks.0.attn.k_norm.weight": ONES},
        (), "the encoder has what ours has not: blocks.0.attn.k_norm.weight, blocks",
    ),
    "many more": (
        VIT, {f"norm_pre.{i}": ONES for i in range(5)}, (),
        r"ours has not: norm_pre.0, norm_pre.1, norm_pre.2, norm_pre.3, \.\.\.$",
    ),
    "stem": (
        RESNET, {"conv1.weight": np.ones((4, 3, 5, 5), np.float32)}, (),
        "conv1 must be 7×7 or 3×3, got 5×5",
    ),
    "width": (
        RESNET, {"layer1.0.conv1.weight": np.ones((8, 4, 3, 3), np.float32)}, (),
        r"layer1.0.conv1.weight must be \[4, any, 3, 3\], got \[8, 4, 3, 3\]",
    ),
    "no shortcut": (
        RESNET, {}, ("layer2.0.downsample.0.weight",),
        "there is no layer2.0.downsample.0.weight, which",
    ),
    "one shortcut more": (
        RESNET, {"layer1.0.downsample.0.weight": ONES}, (),
        "ours has not: layer1.0.downsample.0.weight",
    ),
    "attention": (
        RESNET, {"layer1.0.se.fc1.weight": ONES}, (), "has not: layer1.0.se.fc1.weight",
    ),
}  # fmt: skip
"""Of which weights, what is put in, what is taken out, what is said."""


@pytest.mark.parametrize("fault", FAULTS)
def test_what_ours_cannot_be_is_refused_in_one_line(fault, monkeypatch):
    monkeypatch.setitem(STAGES, 18, (1, 1, 1, 1))
    tensors, more, less, words = FAULTS[fault]
    given = {k: v for k, v in tensors.items() if k not in less}
    with pytest.raises(UsageError, match=words) as error:
        networks.from_torch(given | more)
    assert str(error.value).startswith("from_torch: ")
    assert "\n" not in str(error.value)


def test_what_has_no_names_or_another_depth_is_refused():
    with pytest.raises(
        UsageError, match=r"\(1, 1, 1, 1\) are none of ResNet-18, 34, 50"
    ):
        networks.from_torch(RESNET)
    with pytest.raises(UsageError, match="expected names with arrays.*, got list"):
        networks.from_torch([ONES])


def test_positions_of_the_same_grid_are_the_same():
    table = DRAW.normal(size=(3, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(networks.resize_positions(table, (3, 5)), table, 1e-6)


@pytest.mark.parametrize("grid", [(7, 9), (2, 3), (5, 2)])
def test_resized_constants_stay(grid):
    table = np.broadcast_to(np.float32([1, -2, 0.5]), (4, 4, 3))
    expected = np.broadcast_to(np.float32([1, -2, 0.5]), (*grid, 3))
    assert_close(networks.resize_positions(table, grid), expected, tolerance=1e-6)


def bicubic(count, wanted):
    """[wanted, count]: Keys' cubic of a = −1/2, wider where there are fewer."""
    scale = max(count / wanted, 1.0)
    matrix = np.zeros((wanted, count))
    for i in range(wanted):
        centre = (i + 0.5) * count / wanted - 0.5
        for j in range(count):
            d = abs(j - centre) / scale
            if d < 1:
                matrix[i, j] = 1.5 * d**3 - 2.5 * d**2 + 1
            elif d < 2:
                matrix[i, j] = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        matrix[i] /= matrix[i].sum()
    return matrix


@pytest.mark.parametrize("grid", [(9, 7), (3, 2), (8, 3)])
def test_positions_are_resized_by_cubics(grid):
    table = DRAW.normal(size=(5, 5, 4)).astype(np.float32)
    rows, columns = (bicubic(5, n) for n in grid)
    expected = np.einsum("ir,jc,rcd->ijd", rows, columns, table.astype(np.float64))
    found = networks.resize_positions(table, grid)
    assert found.dtype == jnp.float32
    assert_close(found, expected, tolerance=1e-5)


def test_a_network_of_all_weights_has_the_shapes_of_ours():
    """`pretrained` would refuse any other."""
    shape = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    tensors = vit_weights(width=192, depth=12, patch=16, side=14, zeros=True)
    found = networks.from_torch(tensors)
    network = networks.pretrained(networks.vit(**found.arguments), found.params)
    run = functools.partial(network.apply, train=False)
    params, state = jax.eval_shape(network.init, RNG, shape)
    h, _ = jax.eval_shape(run, params, state, shape)
    assert h.shape == (1, 192)

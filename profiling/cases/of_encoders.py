"""Encoders of other libraries with their own weights, beside ours with the same.

The names are theirs: the other side loads what is drawn here by `load_state_dict`, to
which a name or a shape too many or too few is an error.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from profiling.cases import Case, Peer, normal
from rl_jax import networks
from rl_jax.networks.resnet import STAGES

SIDE, ROWS = 32, 2


def encoder(tensors, image):
    """What our network with these weights gives, h."""
    found = networks.from_torch(tensors)
    network = getattr(networks, found.factory)(**found.arguments)
    apply = jax.jit(functools.partial(network.apply, train=False))
    return apply(found.params, found.state, image)[0]


def projected(image, direction, *tensors, names, **other):
    """Mean of h times a direction, by which its derivative is h."""
    del other
    return jnp.mean(direction * encoder(dict(zip(names, tensors, strict=True)), image))


def represented(image, *tensors, names, **other):
    """The array h: where ReLU is at 0 to rounding, derivatives jump."""
    del other
    return encoder(dict(zip(names, tensors, strict=True)), image)


def vit_shapes(*, width, depth, patch, registers=0, scaled=False):
    """Names and shapes of timm's vision transformer."""
    count = (SIDE // patch) ** 2
    # Where there are registers timm has added its place to DINOv2's cls token.
    shapes = {"cls_token": (1, 1, width)}
    shapes["pos_embed"] = (1, count + (not registers), width)
    if registers:
        shapes["reg_token"] = (1, registers, width)
    layers = {"patch_embed.proj": (width, 3, patch, patch), "norm": (width,)}
    for i in range(depth):
        layers |= {
            f"blocks.{i}.norm1": (width,),
            f"blocks.{i}.attn.qkv": (3 * width, width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.norm2": (width,),
            f"blocks.{i}.mlp.fc1": (4 * width, width),
            f"blocks.{i}.mlp.fc2": (width, 4 * width),
        }
        if scaled:
            shapes |= {f"blocks.{i}.ls{k}.gamma": (width,) for k in (1, 2)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def resnet_shapes(depth):
    """Names and shapes of torchvision's ResNet without its classifier."""
    norms = {"bn1": 64}
    shapes = {"conv1.weight": (64, 3, 7, 7)}
    inputs, deep = 64, depth >= 50
    for stage, blocks in enumerate(STAGES[depth]):
        own = 64 * 2**stage
        out = 4 * own if deep else own
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            sizes = [(own, 3), (own, 3)]
            if deep:
                sizes = [(own, 1), (own, 3), (out, 1)]
            into = inputs
            for k, (to, size) in enumerate(sizes, 1):
                shapes[f"{name}.conv{k}.weight"] = (to, into, size, size)
                norms[f"{name}.bn{k}"] = into = to
            if block == 0 and (stage > 0 or inputs != out):
                shapes[f"{name}.downsample.0.weight"] = (out, inputs, 1, 1)
                norms[f"{name}.downsample.1"] = out
            inputs = out
    for name, size in norms.items():
        kinds = ("weight", "bias", "running_mean", "running_var")
        shapes |= {f"{name}.{kind}": (size,) for kind in kinds}
        shapes[f"{name}.num_batches_tracked"] = ()
    return shapes


def drawn(shapes, width=None):
    """Images, a direction where h is so wide, and weights of these shapes.

    Kernels keep the size of what goes through; statistics and scales are all others.
    """

    def make(rng):
        tensors = []
        for name, shape in shapes.items():
            x = rng.standard_normal(shape, np.float32)
            if len(shape) in (2, 4):
                x *= math.sqrt(1.5 / math.prod(shape[1:]))
            elif name.endswith("running_var"):
                x = 0.5 + x**2
            elif name.endswith(("weight", "gamma")):
                x = 0.7 + 0.3 * x
            tensors.append(np.float32(0.5 * x if name.endswith("bias") else x))
        return *normal((ROWS, SIDE, SIDE, 3))(rng), *direction(rng), *tensors

    direction = normal((ROWS, width)) if width else normal()
    return make


def resized(table, *, grid):
    return networks.resize_positions(table, tuple(grid))


def _encoder(name, library, peer, shapes, model, *, wide=None, **arguments):
    options = {"names": list(shapes), "model": model, "arguments": arguments}
    ours, wrt = (projected, 2) if wide else (represented, 0)
    inputs = drawn(shapes, wide)
    return Case(name, ours, inputs, wrt, options, (Peer(library, peer),))


TIMM, VISION = "timm", "torchvision"
PLAIN = vit_shapes(width=128, depth=2, patch=8)
WITH_REGISTERS = vit_shapes(width=192, depth=2, patch=8, registers=4, scaled=True)

CASES = (
    _encoder(
        "Vision transformer of timm", TIMM, "VisionTransformer.forward", PLAIN,
        "vit_tiny_patch16_224", wide=128, embed_dim=128, num_heads=2, depth=2,
        img_size=SIDE, patch_size=8,
    ),
    _encoder(
        "Vision transformer with registers and LayerScale (DINOv2)", TIMM,
        "VisionTransformer.forward", WITH_REGISTERS, "vit_small_patch14_reg4_dinov2",
        wide=192, embed_dim=192, num_heads=3, depth=2, img_size=SIDE, patch_size=8,
    ),
    *(
        _encoder(
            f"ResNet-{depth} of torchvision", VISION, "ResNet.forward",
            resnet_shapes(depth), f"resnet{depth}",
        )
        for depth in (18, 50)
    ),
    *(
        Case(
            f"positions resized, 6×6 to {rows}×{columns}", resized,
            normal((6, 6, 16)), 0, {"grid": [rows, columns]},
            (Peer(TIMM, "resample_abs_pos_embed", "theirs is float32"),),
        )
        for rows, columns in ((9, 14), (4, 3))
    ),
)  # fmt: skip

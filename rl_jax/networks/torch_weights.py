"""Weights of PyTorch's vision transformers and ResNets, under the names of ours."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError
from rl_jax.networks.resnet import STAGES
from rl_jax.networks.vit import SIZES
from rl_jax.types import Params, State

HEAD = 64
"""Numbers of a head of published vision transformers but those of WIDE."""
WIDE = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Heads by width where they are wider: those of So400m, ViT-H, g and G."""
VIT, RESNET = "patch_embed.proj.weight", "layer1.0.conv1.weight"
"""By these names the two are known, whatever stands before them."""
BESIDE = re.compile(
    r"(head|heads|fc|proj|projector|projection_head|prototypes|predictor|decoder"
    r"|mask_token|masked_embed)\b|(head|decoder)_"
)
"""How names begin that may stand beside an encoder and are left out."""


class TorchWeights(NamedTuple):
    """An encoder of PyTorch as one of ours.

    Attributes:
      factory: `vit` or `resnet`, of `networks`.
      arguments: of the factory, those that the weights decide.
      params, state: of the network that it makes of them.
      left_out: names that are of no encoder, such as those of a head; as they are in
        the file.
    """

    factory: str
    arguments: dict[str, Any]
    params: Params
    state: State
    left_out: tuple[str, ...]


def from_torch(tensors: Mapping[str, Any]) -> TorchWeights:
    """The encoder in a `state_dict` of timm or torchvision, as one of this library.

    Of timm's vision transformers, whose names those of DINO, DINOv2, MAE, MoCo v3,
    iBOT and DeiT have, too, and of torchvision's ResNets, whose names those of MoCo,
    SwAV, BYOL, Barlow Twins and VICReg have. Both compute what they did there, for
    images standardised as there; LayerScale (γ of a branch) is multiplied into the
    branch's last layer. What stands before all names (`module.encoder_q.`) is left out,
    and so is what belongs to no encoder. GELU is by the error function and ε of
    LayerNorm 1e-6, as theirs are: no weight tells where, as in SigLIP's, it is another.

        found = networks.from_torch(safetensors.numpy.load_file("dino.safetensors"))
        make = getattr(networks, found.factory)
        encoder = networks.pretrained(
            make(**found.arguments), found.params, found.state
        )

    Args:
      tensors: names to arrays, as a file of safetensors has them.

    Returns:
      Factory, arguments and weights, float32. The number of heads is no weight: it is
      taken to be width/64, or 16 at the widths of So400m, ViT-H, g and G. The ViT-S of
      MoCo v3 has 12, twice as many: for it, give heads=12 beside the arguments.

    Raises:
      UsageError: for weights of neither, of several encoders, or of an encoder that
        has what ours has not.
    """
    if not isinstance(tensors, Mapping) or not tensors:
        got = "none" if isinstance(tensors, Mapping) else type(tensors).__name__
        raise UsageError(
            f"from_torch: expected names with arrays, as of a state_dict, got {got}"
        )
    found = [
        (name.removesuffix(known), read)
        for known, read in ((VIT, _vit), (RESNET, _resnet))
        for name in tensors
        if name.endswith(known)
    ]
    if not found:
        raise UsageError(
            "from_torch: these are names of no vision transformer of timm and no "
            f"ResNet of torchvision, which have {VIT} or {RESNET}; got "
            f"{', '.join(list(tensors)[:3])}"
        )
    if len(found) > 1:
        names = ", ".join(sorted(start or "one without" for start, _ in found))
        raise UsageError(
            f"from_torch: there are {len(found)} encoders, by what is before their "
            f"names: {names}; keep the names of one"
        )
    ((start, read),) = found
    taken = _Taken(tensors, start)
    return read(taken)._replace(left_out=taken.left())


def resize_positions(table: chex.Array, grid: tuple[int, int]) -> chex.Array:
    """Learned positions for another number of patches (Dosovitskiy et al. 2020, 3.2).

    Args:
      table: [rows, columns, D], as `vit` has them.
      grid: rows and columns wanted.

    Returns:
      float32 [*grid, D], bicubic in between, averaged where there are fewer.
    """
    x = jnp.asarray(table, jnp.float32)
    return jax.image.resize(x, (*grid, x.shape[-1]), "bicubic")


class _Taken:
    """Arrays by the names that an encoder has, and which of them were asked for."""

    def __init__(self, tensors: Mapping[str, Any], start: str):
        self.tensors, self.seen = tensors, set()
        self.names = {k.removeprefix(start): k for k in tensors if k.startswith(start)}

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __call__(self, name: str, *shape: int | None) -> np.ndarray:
        """An array, float32; of that shape, where sizes are given."""
        if name not in self.names:
            raise UsageError(f"from_torch: there is no {name}, which its encoder needs")
        self.seen.add(name)
        x = np.asarray(self.tensors[self.names[name]])
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UsageError(
                f"from_torch: {name} must be of a float dtype, got {x.dtype}"
            )
        fits = len(shape) == x.ndim and all(
            asked in (None, size) for asked, size in zip(shape, x.shape, strict=True)
        )
        if shape and not fits:
            asked = ", ".join("any" if s is None else str(s) for s in shape)
            raise UsageError(
                f"from_torch: {name} must be [{asked}], got {list(x.shape)}; its "
                "encoder is of another kind than ours"
            )
        return x.astype(np.float32, copy=False)

    def count(self, pattern: str) -> int:
        """How many numbers, from 0, stand where the pattern has its group."""
        found = {int(m[1]) for k in self.names if (m := re.match(pattern, k))}
        if found != set(range(len(found))):
            name = re.sub(r"\W.*", "", pattern)
            there = ", ".join(map(str, sorted(found)))
            raise UsageError(f"from_torch: of {name} there are only {there}")
        return len(found)

    def left(self) -> tuple[str, ...]:
        """What was not asked for; none of it may be inside the encoder."""
        left = [k for k in self.names if k not in self.seen and not _counts(k)]
        inside = sorted(k for k in left if not BESIDE.match(k))
        if inside:
            names = ", ".join(inside[:4]) + (", ..." if len(inside) > 4 else "")
            raise UsageError(f"from_torch: the encoder has what ours has not: {names}")
        own = set(self.names.values())
        outside = [k for k in self.tensors if k not in own and not _counts(k)]
        return tuple(sorted([self.names[k] for k in left] + outside))


def _counts(name: str) -> bool:
    """Whether it is only how many batches a BatchNorm has seen."""
    return name.endswith("num_batches_tracked")


def _dense(
    take: _Taken,
    name: str,
    out: int | None,
    inputs: int,
    *,
    scale: np.ndarray | None = None,
) -> Params:
    """A linear layer; with a scale, that of what it gives."""
    kernel = take(f"{name}.weight", out, inputs).T
    bias = take(f"{name}.bias", kernel.shape[1])
    if scale is not None:
        kernel, bias = kernel * scale, bias * scale
    return {"kernel": kernel, "bias": bias}


def _norm(take: _Taken, name: str, size: int | None = None) -> Params:
    return {"scale": take(f"{name}.weight", size), "bias": take(f"{name}.bias", size)}


def _vit(take: _Taken) -> TorchWeights:
    kernel = take(VIT, None, None, None, None)
    width, _, patch, columns = kernel.shape
    if patch != columns:
        raise UsageError(f"from_torch: patches must be square, got {patch}×{columns}")
    depth = max(take.count(r"blocks\.(\d+)\."), 1)
    embed = {
        # Of a patch ours has values by row, column, channel.
        "kernel": kernel.transpose(2, 3, 1, 0).reshape(-1, width),
        "bias": take("patch_embed.proj.bias", width),
    }
    params: dict[str, Any] = {"embed": embed}
    arguments: dict[str, Any] = {"patch": patch, "positions": "learned", "pool": "mean"}
    rows = take("pos_embed", 1, None, width)[0]
    if "cls_token" in take:
        cls = take("cls_token", 1, 1, width)
        if math.isqrt(len(rows)) ** 2 != len(rows):
            # Its place is added to it; registers go without, and so may all of them.
            cls, rows = cls + rows[0], rows[1:]
        params["cls"], arguments["pool"] = cls, "cls"
    name = next((k for k in ("reg_token", "register_tokens") if k in take), None)
    if name:
        params["registers"] = take(name, 1, None, width)
        arguments["registers"] = params["registers"].shape[1]
    side = math.isqrt(len(rows))
    if side * side != len(rows):
        raise UsageError(
            f"from_torch: pos_embed must be of a square of patches, got {len(rows)}"
        )
    params["positions"] = rows.reshape(side, side, width)
    blocks = {f"block{i + 1}": _block(take, f"blocks.{i}", width) for i in range(depth)}
    params["transformer"] = blocks | {"norm": _norm(take, "norm", width)}

    heads = WIDE.get(width, width // HEAD)
    size = next((k for k, v in SIZES.items() if v == (width, depth, heads)), None)
    if size is None:
        arguments |= {"width": width, "depth": depth, "heads": max(heads, 1)}
    else:
        arguments["size"] = size
    hidden = blocks["block1"]["mlp1"]["bias"].shape[0]
    if hidden != 4 * width:
        ratio = hidden / width
        # The product may be just below.
        whole = int(width * ratio) == hidden
        arguments["mlp_ratio"] = ratio if whole else math.nextafter(ratio, math.inf)
    return TorchWeights("vit", arguments, params, {}, ())


def _block(take: _Taken, name: str, width: int) -> Params:
    scales = [
        next(
            (
                take(key, width)
                for key in (f"{name}.ls{k}.gamma", f"{name}.gamma_{k}")
                if key in take
            ),
            None,
        )
        for k in (1, 2)
    ]
    hidden = _dense(take, f"{name}.mlp.fc1", None, width)
    inner = len(hidden["bias"])
    return {
        "norm1": _norm(take, f"{name}.norm1", width),
        "qkv": _dense(take, f"{name}.attn.qkv", 3 * width, width),
        "out": _dense(take, f"{name}.attn.proj", width, width, scale=scales[0]),
        "norm2": _norm(take, f"{name}.norm2", width),
        "mlp1": hidden,
        "mlp2": _dense(take, f"{name}.mlp.fc2", width, inner, scale=scales[1]),
    }


def _resnet(take: _Taken) -> TorchWeights:
    stages = tuple(take.count(rf"layer{k}\.(\d+)\.") for k in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in take
    depth = next(
        (d for d, v in STAGES.items() if v == stages and (d >= 50) == bottleneck), None
    )
    if depth is None:
        known = ", ".join(map(str, STAGES))
        raise UsageError(f"from_torch: blocks {stages} are none of ResNet-{known}")
    stem = take("conv1.weight", None, None, None, None)
    width, size = stem.shape[0], stem.shape[2]
    if size not in (3, 7):
        raise UsageError(f"from_torch: conv1 must be 7×7 or 3×3, got {size}×{size}")
    params: dict[str, Any] = {"stem": {"kernel": stem.transpose(2, 3, 1, 0)}}
    state: dict[str, Any] = {}
    params["stem_norm"], state["stem_norm"] = _batch_norm(take, "bn1")
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            there = f"layer{stage + 1}.{block}"
            here = f"stage{stage + 1}_block{block + 1}"
            made, seen = _residual(
                take,
                there,
                width=width * 2**stage,
                bottleneck=bottleneck,
                shortcut=block == 0 and (stage > 0 or bottleneck),
            )
            params[here], state[here] = made, seen
    arguments = {"depth": depth, "stem": "imagenet" if size == 7 else "cifar"}
    if width != 64:
        arguments["width"] = width
    return TorchWeights("resnet", arguments, params, {"batch_stats": state}, ())


def _residual(take: _Taken, name: str, *, width: int, bottleneck: bool, shortcut: bool):
    """A block's parameters and statistics."""
    shapes = [(width, 3), (width, 3)]
    if bottleneck:
        shapes = [(width, 1), (width, 3), (4 * width, 1)]
    params: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for k, (out, size) in enumerate(shapes):
        kernel = take(f"{name}.conv{k + 1}.weight", out, None, size, size)
        params[f"Conv_{k}"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
        norm = f"BatchNorm_{k}"
        params[norm], state[norm] = _batch_norm(take, f"{name}.bn{k + 1}")
    if shortcut:
        kernel = take(f"{name}.downsample.0.weight", shapes[-1][0], None, 1, 1)
        params["shortcut"] = {"kernel": kernel.transpose(2, 3, 1, 0)}
        made = _batch_norm(take, f"{name}.downsample.1")
        params["shortcut_norm"], state["shortcut_norm"] = made
    return params, state


def _batch_norm(take: _Taken, name: str):
    mean, var = take(f"{name}.running_mean", None), take(f"{name}.running_var", None)
    return _norm(take, name), {"mean": mean, "var": var}

"""PyTorch's encoders in NumPy float64, read from their names; and random weights.

The vision transformer is timm's, the ResNet torchvision's, both in evaluation.
"""

import math

import numpy as np

ERF = np.vectorize(math.erf)


def _double(tensors):
    return {k: np.asarray(v, np.float64) for k, v in tensors.items()}


def conv2d(x, weight, *, stride, padding):
    """`F.conv2d` of x [B, C, H, W], weight [O, C, K, K], without a bias."""
    size = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = ((n - size) // stride + 1 for n in x.shape[2:])
    y = np.zeros((len(x), len(weight), rows, columns))
    for r in range(rows):
        for c in range(columns):
            top, left = stride * r, stride * c
            window = x[:, :, top : top + size, left : left + size]
            y[:, :, r, c] = np.tensordot(window, weight, ((1, 2, 3), (1, 2, 3)))
    return y


def max_pool(x):
    """`F.max_pool2d` with windows of 3, stride 2 and padding 1."""
    edge = ((0, 0), (0, 0), (1, 1), (1, 1))
    x = np.pad(x, edge, constant_values=-np.inf)
    rows, columns = ((n - 3) // 2 + 1 for n in x.shape[2:])
    y = np.zeros((*x.shape[:2], rows, columns))
    for r in range(rows):
        for c in range(columns):
            window = x[:, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
            y[:, :, r, c] = window.max((2, 3))
    return y


def vit(tensors, image, *, heads):
    """Every token after the last norm, [B, prefix + L, D], of images [B, H, W, C]."""
    t = _double(tensors)

    def linear(name, x):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(name, x):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / np.sqrt(var + 1e-6)
        return x * t[f"{name}.weight"] + t[f"{name}.bias"]

    def scaled(block, k, x):
        for name in (f"{block}.ls{k}.gamma", f"{block}.gamma_{k}"):
            if name in t:
                return x * t[name]
        return x

    def attention(name, x):
        rows, count, width = x.shape
        # [B, L, 3, heads, D / heads], as timm has it.
        parts = linear(f"{name}.qkv", x).reshape(rows, count, 3, heads, -1)
        y = np.zeros((rows, count, heads, width // heads))
        for h in range(heads):
            q, k, v = (parts[:, :, i, h] for i in range(3))
            score = np.einsum("bqd,bkd->bqk", q, k) / math.sqrt(width / heads)
            score = np.exp(score - score.max(-1, keepdims=True))
            y[:, :, h] = (score / score.sum(-1, keepdims=True)) @ v
        return linear(f"{name}.proj", y.reshape(x.shape))

    def mlp(name, x):
        y = linear(f"{name}.fc1", x)
        return linear(f"{name}.fc2", y * (1 + ERF(y / math.sqrt(2))) / 2)

    kernel = t["patch_embed.proj.weight"]
    x = conv2d(
        np.asarray(image, np.float64).transpose(0, 3, 1, 2),
        kernel,
        stride=kernel.shape[-1],
        padding=0,
    )
    x = x.reshape(*x.shape[:2], -1).transpose(0, 2, 1) + t["patch_embed.proj.bias"]
    places = t["pos_embed"]
    register = t.get("reg_token", t.get("register_tokens"))
    cls = t.get("cls_token")
    prefix = [p for p in (cls, register) if p is not None]
    prefix = [np.repeat(p, len(x), axis=0) for p in prefix]
    if cls is not None and places.shape[1] == 1 + x.shape[1]:
        # Added before registers are put in between, which have no place.
        x = np.concatenate([prefix[0], x], 1) + places
        x = np.concatenate([x[:, :1], *prefix[1:], x[:, 1:]], 1)
    else:
        x = np.concatenate([*prefix, x + places], 1)
    depth = len([k for k in t if k.endswith("norm1.weight")])
    for i in range(depth):
        block = f"blocks.{i}"
        y = attention(f"{block}.attn", norm(f"{block}.norm1", x))
        x = x + scaled(block, 1, y)
        y = mlp(f"{block}.mlp", norm(f"{block}.norm2", x))
        x = x + scaled(block, 2, y)
    return norm("norm", x)


def resnet(tensors, image):
    """The mean over positions of the last stage, [B, D], of images [B, H, W, C]."""
    t = _double(tensors)

    def norm(name, x):
        mean, var, gain, shift = (
            t[f"{name}.{n}"][None, :, None, None]
            for n in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * gain + shift

    def conv(name, x, stride):
        weight = t[f"{name}.weight"]
        return conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = np.asarray(image, np.float64).transpose(0, 3, 1, 2)
    large = t["conv1.weight"].shape[-1] == 7
    x = np.maximum(norm("bn1", conv("conv1", x, 2 if large else 1)), 0)
    x = max_pool(x) if large else x
    for stage in (1, 2, 3, 4):
        number = 0
        while f"layer{stage}.{number}.conv1.weight" in t:
            name = f"layer{stage}.{number}"
            stride = 2 if stage > 1 and number == 0 else 1
            deep = f"{name}.conv3.weight" in t
            # The 3×3 convolution has the stride: the second one of three.
            strides = (1, stride, 1) if deep else (stride, 1)
            y = x
            for k, step in enumerate(strides, 1):
                y = norm(f"{name}.bn{k}", conv(f"{name}.conv{k}", y, step))
                y = np.maximum(y, 0) if k < len(strides) else y
            if f"{name}.downsample.0.weight" in t:
                x = conv(f"{name}.downsample.0", x, stride)
                x = norm(f"{name}.downsample.1", x)
            x = np.maximum(x + y, 0)
            number += 1
    return x.mean((2, 3))


def vit_weights(
    *,
    width=128,
    depth=2,
    patch=2,
    side=3,
    hidden=None,
    cls=True,
    place_of_cls=True,
    registers=0,
    scaled=None,
    seed=0,
    zeros=False,
):
    """A state_dict of timm's, float32; `zeros`: shapes alone, which take no memory."""
    hidden = hidden or 4 * width
    made = {}
    if cls:
        made["cls_token"] = (1, 1, width)
    if registers:
        made["reg_token"] = (1, registers, width)
    made["pos_embed"] = (1, side * side + (cls and place_of_cls), width)
    made |= _layer("patch_embed.proj", (width, 3, patch, patch))
    for i in range(depth):
        name = f"blocks.{i}"
        made |= _layer(f"{name}.norm1", (width,))
        made |= _layer(f"{name}.attn.qkv", (3 * width, width))
        made |= _layer(f"{name}.attn.proj", (width, width))
        made |= _layer(f"{name}.norm2", (width,))
        made |= _layer(f"{name}.mlp.fc1", (hidden, width))
        made |= _layer(f"{name}.mlp.fc2", (width, hidden))
        if scaled:
            made |= {f"{name}.{scaled.format(k)}": (width,) for k in (1, 2)}
    made |= _layer("norm", (width,))
    if zeros:
        return {k: np.broadcast_to(np.float32(0), s) for k, s in made.items()}
    return _drawn(made, seed)


def resnet_weights(*, blocks, bottleneck, width=4, stem=7, seed=0):
    """A state_dict of torchvision's, float32, `num_batches_tracked` among it."""
    made = {"conv1.weight": (width, 3, stem, stem)} | _batch_norm("bn1", width)
    inputs = width
    for stage, count in enumerate(blocks):
        for number in range(count):
            name, own = f"layer{stage + 1}.{number}", width * 2**stage
            out = 4 * own if bottleneck else own
            sizes = [(own, 3), (own, 3)]
            if bottleneck:
                sizes = [(own, 1), (own, 3), (out, 1)]
            into = inputs
            for k, (to, size) in enumerate(sizes, 1):
                made[f"{name}.conv{k}.weight"] = (to, into, size, size)
                made |= _batch_norm(f"{name}.bn{k}", to)
                into = to
            if number == 0 and (stage > 0 or inputs != out):
                made[f"{name}.downsample.0.weight"] = (out, inputs, 1, 1)
                made |= _batch_norm(f"{name}.downsample.1", out)
            inputs = out
    return _drawn(made, seed)


def _layer(name, shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _batch_norm(name, size):
    kinds = ("weight", "bias", "running_mean", "running_var")
    shapes = {f"{name}.{kind}": (size,) for kind in kinds}
    return shapes | {f"{name}.num_batches_tracked": ()}


def _drawn(shapes, seed):
    """Kernels that keep the size of what goes through; no two arrays alike."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            found[name] = np.array(7, np.int64)
            continue
        x = rng.standard_normal(shape)
        if name.endswith("running_var"):
            x = 0.5 + x**2
        elif name.endswith("gamma") or "gamma_" in name:
            x = 0.5 + 0.5 * x
        elif len(shape) == 1 and name.endswith("weight"):
            x = 1 + 0.3 * x
        elif len(shape) in (2, 4):
            x = x * math.sqrt(1.5 / np.prod(shape[1:]))
        else:
            x = 0.5 * x
        found[name] = x.astype(np.float32)
    return found

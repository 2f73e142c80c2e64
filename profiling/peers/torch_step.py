"""SimCLR's training step in PyTorch, the peer of `profiling.step`; run by `worker.py`.

The same networks, optimizer, batch and resident data; channels last, autocast,
`torch.compile` where asked for. The augmentation is plain batched PyTorch on the
device. Two things are cheaper than in ours: crops are bilinear without antialiasing,
and the order of the colour jitter is drawn for the batch, not for each image.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)
STRENGTHS = {"cifar": (0.4, 0.4, 0.4, 0.1), "simclr": (0.8, 0.8, 0.8, 0.2)}
"""Of brightness, contrast, saturation and hue."""
BLUR, SIGMA = 0.5, (0.1, 2.0)
RATE = 1e-3


class Step:
    """One configuration of `profiling.step`, ready to run.

    Args:
      config: the fields of `profiling.step.Config`.
      device: where everything lies.
      compiled: whether `torch.compile` is used.
      loss: `(a, b, temperature)` to a scalar.
    """

    def __init__(self, config, device, compiled, loss):
        torch.manual_seed(0)
        self.config = config
        self.images = photographs(config["images"], config["source"], device)
        self.network = Network(config).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            RATE,
            weight_decay=1e-4,  # optax's default
            fused=device.type == "cuda",
        )
        # For the shapes given: other configurations have code in common with this one.
        wrap = functools.partial(torch.compile, dynamic=False) if compiled else _as_is
        self._views = Views(config, device, wrap)
        half = config["dtype"] == "bfloat16"

        def value(x):
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                h = self.network.encoder(x)
            z = self.network.head(h.float())
            a, b = z.chunk(2)
            return loss(a, b, 0.5)

        self._value = wrap(value)

    def augmentation(self):
        """Both views of a random batch, one after the other, [2B, 3, H, W]."""
        n, batch = len(self.images), self.config["batch"]
        index = torch.randint(n, (batch,), device=self.images.device)
        # A view of channels last, without a copy.
        x = self.images[index].permute(0, 3, 1, 2)
        return torch.cat([self._views(x), self._views(x)])

    def step(self):
        """One whole step; the loss."""
        views = self.augmentation()
        self.optimizer.zero_grad(set_to_none=True)
        value = self._value(views)
        value.backward()
        self.optimizer.step()
        return value.detach()


def _as_is(f):
    return f


class Network(nn.Module):
    """Encoder and projector."""

    def __init__(self, config):
        super().__init__()
        self.encoder, width = encoder(config["network"], config["size"])
        hidden = config["head"]
        self.head = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, 128),
        )


def encoder(network, size):
    """The network of a configuration, and its width."""
    if network["kind"] == "vit":
        return ViT(network, size), network["width"]
    if network["kind"] == "convnet":
        (width,) = network["widths"]
        return nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ), width
    import torchvision

    make = getattr(torchvision.models, f"resnet{network['depth']}")
    model = make(zero_init_residual=True)
    width = model.fc.in_features
    model.fc = nn.Identity()
    if network["stem"] == "cifar":
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model, width


class Block(nn.Module):
    """x + Attention(LN(x)), then x + MLP(LN(x))."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        """[B, L, D] to the same."""
        batch, length, width = x.shape
        y = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        y = F.scaled_dot_product_attention(*y.permute(2, 0, 3, 1, 4))
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, fixed sines and cosines, blocks, LayerNorm, mean over patches."""

    def __init__(self, network, size):
        super().__init__()
        width, patch = network["width"], network["patch"]
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.register_buffer("positions", sincos(size // patch, width))
        self.blocks = nn.Sequential(
            *(Block(width, network["heads"]) for _ in range(network["depth"]))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        """[B, 3, H, W] to [B, D]."""
        x = self.embed(x).flatten(2).transpose(1, 2)
        # Left to autocast, float32 positions would make a float32 stream.
        x = x + self.positions.to(x.dtype)
        return self.norm(self.blocks(x)).mean(1)


def sincos(side, width):
    """Fixed embedding of a square grid of patches, [side², width]."""
    quarter = width // 4
    rates = 10000.0 ** (-torch.arange(quarter) / quarter)
    place = torch.arange(side * side)
    angles = [n[:, None] * rates for n in (place % side, place // side)]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1)


def photographs(n, side, device):
    """Smooth random images with a little noise, uint8 [n, side, side, 3]."""
    parts = []
    for start in range(0, n, 256):
        count = min(256, n - start)
        x = torch.rand(count, 3, 8, 8, device=device)
        x = F.interpolate(x, size=(side, side), mode="bilinear")
        x = (x + 0.03 * torch.randn_like(x)).clamp(0, 1)
        parts.append((255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous())
    return torch.cat(parts)


class Views:
    """SimCLR's augmentation of a batch, uint8 [B, 3, H, W] to float32."""

    def __init__(self, config, device, wrap):
        self.kind, self.size = config["views"], config["size"]
        self._mean, self._std = (
            torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD)
        )
        self._crop, self._finish = wrap(self.crop), wrap(self.finish)
        # Each by itself: compiled as one, every order would be a graph of its own.
        steps = (brightness, contrast, saturation, hue)
        strengths = STRENGTHS.get(self.kind, ())
        self._jitter = [
            (wrap(f), strength) for f, strength in zip(steps, strengths, strict=False)
        ]

    def __call__(self, x):
        """One view."""
        if self.kind == "flip":
            x = x.float() / 255
            return torch.where(_chance(x, 0.5), x.flip(3), x)
        x = self._crop(x)
        kept = x
        for k in torch.randperm(4).tolist():
            step, strength = self._jitter[k]
            x = step(x, strength)
        return self._finish(x, kept)

    def crop(self, x):
        """Random resized crop, and flip, as one affine map."""
        n, device = len(x), x.device
        x = x.float() / 255
        area = torch.empty(n, device=device).uniform_(0.08, 1.0)
        ratio = torch.empty(n, device=device).uniform_(math.log(3 / 4), math.log(4 / 3))
        ratio = ratio.exp()
        wide = (area * ratio).sqrt().clamp(max=1)
        high = (area / ratio).sqrt().clamp(max=1)
        right = (2 * torch.rand_like(wide) - 1) * (1 - wide)
        down = (2 * torch.rand_like(high) - 1) * (1 - high)
        sign = torch.where(torch.rand_like(wide) < 0.5, 1.0, -1.0)
        zero = torch.zeros_like(wide)
        theta = torch.stack([wide * sign, zero, right, zero, high, down], dim=1)
        grid = F.affine_grid(
            theta.view(n, 2, 3), [n, 3, self.size, self.size], align_corners=False
        )
        return F.grid_sample(
            x, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )

    def finish(self, x, kept):
        """Some without jitter, some grey, some blurred; standardised."""
        x = torch.where(_chance(x, 0.8), x, kept)
        x = torch.where(_chance(x, 0.2), luma(x).expand_as(x), x)
        if self.kind == "simclr":
            x = torch.where(_chance(x, BLUR), blur(x), x)
        x = (x - self._mean) / self._std
        return x.contiguous(memory_format=torch.channels_last)


def _chance(x, p):
    return torch.rand(len(x), 1, 1, 1, device=x.device) < p


def _factor(x, strength):
    spread = 2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1
    return 1 + strength * spread


def luma(x):
    """[B, 3, H, W] to [B, 1, H, W]."""
    red, green, blue = x.split(1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def brightness(x, strength):
    """Times a random factor."""
    return (x * _factor(x, strength)).clamp(0, 1)


def contrast(x, strength):
    """Away from the mean luma, or towards it."""
    mean = luma(x).mean((1, 2, 3), keepdim=True)
    return (mean + _factor(x, strength) * (x - mean)).clamp(0, 1)


def saturation(x, strength):
    """Away from grey, or towards it."""
    grey = luma(x)
    return (grey + _factor(x, strength) * (x - grey)).clamp(0, 1)


def hue(x, strength):
    """Turned by a random share of the circle."""
    red, green, blue = x.split(1, dim=1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    is_red, is_green = value == red, value == green
    pure = torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))
    slope = torch.where(
        is_red, green - blue, torch.where(is_green, blue - red, red - green)
    )
    turn = 6 * (_factor(x, strength) - 1)
    angle = pure + slope / torch.where(chroma > 0, chroma, 1.0) + turn
    primary = torch.arange(0, 6, 2, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    distance = angle - primary
    distance = (distance - 6 * torch.round(distance / 6)).abs()
    return value - chroma * (distance - 1).clamp(0, 1)


def blur(x):
    """Gaussian, of another width for each image, as a product with a band per axis.

    A convolution with a kernel for each image would be one of as many groups.
    """
    n, _, size, _ = x.shape
    sigma = torch.empty(n, 1, 1, device=x.device).uniform_(*SIGMA)
    place = torch.arange(size, device=x.device)
    apart = (place[:, None] - place[None]).float()
    band = torch.exp(-0.5 * (apart / sigma) ** 2) * (apart.abs() <= max(1, size // 20))
    band = (band / band.sum(2, keepdim=True))[:, None]
    return band @ x @ band.transpose(2, 3)

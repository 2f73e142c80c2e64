"""Sources of sequences: a made dynamical system, and digits line by line."""

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.data.digits import digits
from rl_jax.data.draws import normal, snapped, uniform
from rl_jax.data.records import records
from rl_jax.data.source import Source
from rl_jax.errors import UsageError


def oscillators(
    *,
    classes: int = 8,
    steps: int = 64,
    channels: int = 8,
    drift: float = 0.05,
    noise: float = 0.1,
    size: int = 4000,
    seed: int = 0,
) -> Source:
    """Noisy rotations in the plane, seen through a fixed map: which frequency?

    z_{t+1} = R(2π f) z_t + drift · ε, x_t = tanh(z_t W + b) + noise · η, with ε and η
    standard normal. The class is the frequency f, one of C at equal distances from
    2 / steps to 1/4 cycles a step; starting phase and amplitude are random, uniform
    in [0, 2π) and [0.5, 1.5). A single step says nothing about the class.

    Args:
      classes: number C of frequencies, in [2, steps / 4 - 1], so that a Fourier
        transform tells them apart.
      steps: length T of a sequence, >= 12.
      channels: observed variables F, >= 2.
      drift: standard deviation of what disturbs z, >= 0.
      noise: standard deviation of what disturbs x, >= 0.
      size: training examples, >= 5; a fifth as many are held out.
      seed: in [0, 2^64).

    Returns:
      A source with the field `sequence` float32 [n, T, F], the frequency's number as
      label, and the truth, `factors` float32 [n, 3]: frequency in cycles a step,
      amplitude and phase in radians of the first step.

    Raises:
      UsageError: an argument out of range.
    """
    whole(
        "oscillators",
        classes=classes,
        steps=steps,
        channels=channels,
        size=size,
        seed=seed,
    )
    at_least(
        "oscillators",
        classes=(classes, 2),
        steps=(steps, 12),
        channels=(channels, 2),
        drift=(drift, 0),
        noise=(noise, 0),
        size=(size, 5),
    )
    if classes > steps / 4 - 1:
        raise UsageError(
            f"oscillators: classes must be <= steps / 4 - 1 = {steps / 4 - 1:g}, "
            f"got {classes}"
        )
    frequencies = np.linspace(2 / steps, 1 / 4, classes)
    weights = normal(seed, 200, (2, channels))
    bias = 0.5 * normal(seed, 201, (channels,))
    made = None
    for first, count in ((100, size // 5), (0, size)):
        labels = np.floor(classes * uniform(seed, first, (count,))).astype(int)
        amplitude = 0.5 + uniform(seed, first + 1, (count,))
        phase = 2 * np.pi * uniform(seed, first + 2, (count,))
        turn = np.exp(2j * np.pi * frequencies[labels])
        real, imaginary = drift * normal(seed, first + 3, (2, steps, count))
        z = [amplitude * np.exp(1j * phase)]
        for t in range(1, steps):
            z.append(turn * z[-1] + real[t] + 1j * imaginary[t])
        path = np.stack(z, axis=1)
        seen = np.tanh(np.stack([path.real, path.imag], axis=-1) @ weights + bias)
        seen = seen + noise * normal(seed, first + 4, seen.shape)
        factors = np.stack([frequencies[labels], amplitude, phase], axis=1)
        made = records(
            {"sequence": snapped(seen), "factors": snapped(factors)},
            labels,
            name="oscillators held out" if first else "oscillators",
            class_names=tuple(f"{f:.4g} cycles a step" for f in frequencies),
            held_out=made,
        )
    assert made is not None
    return made


def strokes() -> Source:
    """The digits drawn line by line, one horizontal stroke of eight pixels a step.

    The images of `digits`, split as there, read from the top: step t is the t-th row,
    ink in [0, 1].

    Returns:
      A source of 1,297 with the field `sequence` float32 [n, 8, 8] and labels 0 .. 9;
      `held_out` has the other 500.
    """
    images = digits()
    made = None
    for part in (images.held_out, images):
        assert part is not None
        assert part.images is not None
        made = records(
            {"sequence": part.images[..., 0] / np.float32(255)},
            part.labels,
            name=part.name.replace("digits", "strokes"),
            class_names=images.class_names,
            held_out=made,
        )
    assert made is not None
    return made

"""Context: where does this patch lie, seen from that one?"""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError
from rl_jax.methods.pretext import Task, cut, pretext
from rl_jax.types import Method, Network

Chromatic = Literal["drop", "project", "keep"]
NEIGHBOURS = np.array(
    [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)], np.int32
)
"""Row and column of each answer in the 3×3 arrangement; the centre is (1, 1)."""


class Sizes(NamedTuple):
    """In pixels: the side of a patch, the gap, and the range of the jitter."""

    patch: int
    gap: int
    jitter: int


def context(
    encoder: Network,
    head: Network,
    *,
    patch: int | None = None,
    gap: int | None = None,
    jitter: int | None = None,
    chromatic: Chromatic = "drop",
) -> Method:
    """Predicts which neighbour a patch is (Doersch et al. 2015, arXiv:1505.05192).

    A 3×3 arrangement of patches is laid somewhere on the image, each patch moved by its
    own jitter; −log softmax(Wᵀ g(f(centre), f(neighbour)) + b)_a, where the neighbour a
    is one of the eight. Gap and jitter keep lines that cross the border, and the jitter
    the exact distance, from giving the answer away.

    In colour images, the lens does: it displaces green against red and blue, more so
    towards the corners, so that a patch tells where it is from. Images of other than
    three channels are left as they are.

    Args:
      encoder: f, patches [N, p, p, C] to features [N, D]; the same for both.
      head: g, the two features side by side, [B, 2·D] to [B, H]; discarded afterwards.
      patch: p, side of a patch; None: a quarter of the image's shorter side.
      gap: pixels between the patches before jitter; None: a third of the patch, at
        least 1. The authors have 48 beside patches of 96.
      jitter: each patch is moved by 0 … jitter pixels along each axis, at most the gap,
        so that patches never overlap; None: the gap. The authors' ±7 is 14.
      chromatic: "drop" keeps one channel of each patch, drawn at random, the others
        become noise of a hundredth of its standard deviation; "project" takes the
        component along green − magenta, (−1, 2, −1)/√6, out of every pixel; both as in
        the paper. "keep" does nothing.

    Returns:
      A method with `encode` name `h`, the mean of the features of 3×3 patches spread
      evenly over the image (with "drop", over each of their three channels alone,
      zeros for noise), and metric `accuracy` of the eight-way answers (chance ⅛).

    Raises:
      UsageError: for values out of range; in use, for images too small for the
        arrangement.
    """
    if patch is not None and patch < 1:
        raise UsageError(f"context: patch must be at least 1, got {patch}")
    for name, value in (("gap", gap), ("jitter", jitter)):
        if value is not None and value < 0:
            raise UsageError(f"context: {name} must be at least 0, got {value}")
    if gap is not None and jitter is not None and jitter > gap:
        raise UsageError(
            f"context: jitter must be at most the gap of {gap}, got {jitter}; patches "
            "that overlap give the answer away"
        )
    if chromatic not in ("drop", "project", "keep"):
        raise UsageError(
            f"context: chromatic must be one of drop, project, keep, got {chromatic!r}"
        )
    return pretext(encoder, head, task(patch, gap, jitter, chromatic))


def task(
    patch: int | None, gap: int | None, jitter: int | None, chromatic: Chromatic
) -> Task:
    """Which of the neighbours; what is seen of a whole image is a 3×3 grid."""

    def ask(rngs, image):
        sizes = fitting(image, patch, gap, jitter)
        height, width = image.shape[1:3]
        room = np.array([[height, width]], np.int32) - extent(sizes)

        def pair(rng, image):
            rngs = jax.random.split(rng, 4)
            answer = jax.random.randint(rngs[0], (), 0, len(NEIGHBOURS))
            origin = jax.random.randint(rngs[1], (1, 2), 0, room + 1)
            moved = jax.random.randint(rngs[2], (2, 2), 0, sizes.jitter + 1)
            place = jnp.stack([jnp.ones(2, jnp.int32), jnp.asarray(NEIGHBOURS)[answer]])
            corner = origin + place * (sizes.patch + sizes.gap) + moved
            parts = cut(image, *corner.T, sizes.patch, sizes.patch)
            return without_aberration(rngs[3], parts, chromatic), answer

        parts, answer = jax.vmap(pair)(rngs, image)
        return parts[:, None], answer[:, None]

    def look(image):
        side = fitting(image, patch, gap, jitter).patch
        height, width = image.shape[1:3]
        rows = np.linspace(0, height - side, 3).astype(np.int32)
        columns = np.linspace(0, width - side, 3).astype(np.int32)
        row, column = (jnp.asarray(a.ravel()) for a in np.meshgrid(rows, columns))
        parts = jax.vmap(lambda x: cut(x, row, column, side, side))(image)
        if image.shape[-1] != 3 or chromatic == "keep":
            return parts
        if chromatic == "project":
            return project(parts)
        alone = parts[:, :, None] * channels(parts)[None, None, :, None, None]
        return alone.reshape(image.shape[0], -1, *parts.shape[2:])

    return Task("context", len(NEIGHBOURS), ask, look)


def without_aberration(
    rng: chex.PRNGKey, parts: chex.Array, chromatic: Chromatic
) -> chex.Array:
    """Patches [n, p, p, C] whose channels no longer tell how they are displaced."""
    if parts.shape[-1] != 3 or chromatic == "keep":
        return parts
    if chromatic == "project":
        return project(parts)
    rng_channel, rng_noise = jax.random.split(rng)
    kept = jax.random.randint(rng_channel, (len(parts),), 0, 3)
    kept = channels(parts)[kept][:, None, None]
    alone = jnp.sum(parts * kept, axis=-1)
    deviation = jnp.std(alone, axis=(1, 2))[:, None, None, None]
    noise = 0.01 * deviation * jax.random.normal(rng_noise, parts.shape, parts.dtype)
    return parts * kept + noise * (1.0 - kept)


def channels(parts: chex.Array) -> chex.Array:
    """One-hot rows [3, 3], one for each channel."""
    return jnp.eye(3, dtype=parts.dtype)


def project(parts: chex.Array) -> chex.Array:
    """Pixels x of [..., 3] become x − (x·a) a, a = (−1, 2, −1)/√6."""
    a = np.array([-1.0, 2.0, -1.0]) / np.sqrt(6.0)
    flat = jnp.asarray(np.eye(3) - np.outer(a, a), parts.dtype)
    return jnp.matmul(parts, flat, precision=jax.lax.Precision.HIGHEST)


def extent(sizes: Sizes) -> int:
    """Pixels that the arrangement and its jitter take along each axis."""
    return 3 * sizes.patch + 2 * sizes.gap + sizes.jitter


def fitting(
    image: chex.Array, patch: int | None, gap: int | None, jitter: int | None
) -> Sizes:
    """The sizes in pixels, where images [B, H, W, C] have room for them.

    Raises:
      UsageError: naming the sides.
    """
    height, width = image.shape[1:3]
    side = min(height, width) // 4 if patch is None else patch
    least = max(1, side // 3, 0 if jitter is None else jitter)
    apart = least if gap is None else gap
    sizes = Sizes(side, apart, apart if jitter is None else jitter)
    if side < 1 or extent(sizes) > min(height, width):
        raise UsageError(
            f"context: images of {height} x {width} are too small for 3 x 3 patches of "
            f"{sizes.patch} with gap {sizes.gap} and jitter {sizes.jitter}, which take "
            f"{extent(sizes)}; resize them, or choose a smaller patch"
        )
    return sizes

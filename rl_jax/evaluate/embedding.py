"""Maps of a representation in two dimensions, for looking at."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments

_MOST = 2000
_EXAGGERATION = 12.0


@checked
@jax.jit
def pca_2d(features: chex.Array) -> chex.Array:
    """The two leading principal components of each row (Pearson 1901).

    Args:
      features: [n, D], D >= 2, of any float dtype.

    Returns:
      float32 [n, 2]. The sign of an axis is fixed by its largest loading: positive.
      Zeros up to rounding for constant features, NaN where any is NaN or inf.

    Raises:
      UsageError: not [n, D] with D >= 2, or empty.
    """
    if features.ndim != 2 or features.shape[1] < 2 or not features.size:
        raise UsageError(
            f"pca_2d: expected [n, D] with n >= 1 and D >= 2, got {features.shape}"
        )
    x = features.astype(jnp.float32)
    largest = jnp.maximum(jnp.abs(x).max(), jnp.finfo(jnp.float32).tiny)
    return largest * _components(x / largest)


def _components(x: chex.Array) -> chex.Array:
    """`pca_2d` of numbers of at most 1."""
    x = x - x.mean(0, keepdims=True)
    _, directions = jnp.linalg.eigh(x.T @ x)
    axes = directions[:, :-3:-1]
    largest = jnp.take_along_axis(axes, jnp.abs(axes).argmax(0)[None], axis=0)
    return x @ (axes * jnp.where(largest < 0, -1.0, 1.0))


@checked
def tsne(
    features: chex.Array, *, perplexity: float = 30.0, steps: int = 1000, seed: int = 0
) -> np.ndarray:
    """Exact t-SNE map (van der Maaten & Hinton 2008, JMLR 9:2579-2605).

    Minimises KL(P ‖ Q) with P from Gaussians of the given perplexity and Q from a
    Student-t in the plane, by gradient descent with momentum 0.5 then 0.8, gains, and P
    exaggerated 12-fold for the first quarter of the steps, from `pca_2d` (Kobak &
    Berens 2019). It holds [n, n] matrices: a picture of some hundred points, not an
    algorithm for a data set.

    Args:
      features: [n, D], 4 <= n <= 2000, D >= 2.
      perplexity: effective number of neighbours, >= 1; at most (n − 1)/3 is used.
      steps: of gradient descent, >= 1.
      seed: of the small noise that separates equal rows.

    Returns:
      float32 [n, 2], centred. Constant features give a disc of noise.

    Raises:
      UsageError: an argument out of range, or features that are not finite.
    """
    x = np.asarray(features, np.float32)
    if x.ndim != 2 or x.shape[1] < 2 or not 4 <= len(x) <= _MOST:
        raise UsageError(
            f"tsne: expected [n, D] with 4 <= n <= {_MOST} and D >= 2, got {x.shape}; "
            "draw fewer rows"
        )
    if not np.isfinite(x).all():
        raise UsageError("tsne: features must be finite, got NaN or inf")
    if not perplexity >= 1:
        raise UsageError(f"tsne: perplexity must be >= 1, got {perplexity}")
    arguments.counts("tsne", steps=steps)
    # Neighbours do not depend on the scale, and squares of large numbers overflow.
    x = x / max(np.abs(x).max(), np.finfo(np.float32).tiny)
    perplexity = min(float(perplexity), (len(x) - 1) / 3)
    return np.asarray(_tsne(x, perplexity, jax.random.key(seed), steps=steps))


@functools.partial(jax.jit, static_argnames="steps")
def _tsne(x, perplexity, rng, *, steps: int):
    n = len(x)
    p = _affinities(_square_distances(x), perplexity)
    start = pca_2d(x)
    start = start / jnp.maximum(start[:, 0].std(), 1e-12)
    y = 1e-4 * (start + 0.01 * jax.random.normal(rng, (n, 2)))
    rate = max(n / _EXAGGERATION / 4, 50.0)

    def step(t, carry):
        y, velocity, gains = carry
        early = t < steps // 4
        kernel = 1.0 / (1.0 + _square_distances(y))
        kernel = kernel * (1.0 - jnp.eye(n))
        force = p * jnp.where(early, _EXAGGERATION, 1.0) - kernel / kernel.sum()
        force = force * kernel
        grad = 4.0 * (force.sum(1, keepdims=True) * y - force @ y)
        agrees = (grad > 0) == (velocity > 0)
        gains = jnp.maximum(jnp.where(agrees, gains * 0.8, gains + 0.2), 0.01)
        velocity = jnp.where(early, 0.5, 0.8) * velocity - rate * gains * grad
        y = y + velocity
        return y - y.mean(0, keepdims=True), velocity, gains

    carry = (y, jnp.zeros_like(y), jnp.ones_like(y))
    return jax.lax.fori_loop(0, steps, step, carry)[0]


def _square_distances(x):
    """‖x_i − x_j‖², from differences in the plane, where rounding would show."""
    if x.shape[1] == 2:
        return sum((v[:, None] - v[None]) ** 2 for v in x.T)
    x = x - x.mean(0, keepdims=True)
    square = (x * x).sum(1)
    product = jnp.dot(x, x.T, precision="highest")
    return jnp.maximum(square[:, None] + square[None] - 2 * product, 0.0)


def _affinities(distance, perplexity):
    """Symmetric P with Σ P = 1: bandwidths by bisection, so that H = log perplexity."""
    n = len(distance)
    self_pair = jnp.eye(n, dtype=bool)
    # Relative to the nearest other row and in units of the mean, so that neither the
    # scale of the features nor a far outlier leaves the range of exp.
    others = jnp.where(self_pair, jnp.inf, distance)
    distance = distance - others.min(1, keepdims=True)
    distance = jnp.where(self_pair, 0.0, distance)
    unit = distance.sum(1, keepdims=True) / (n - 1)
    distance = distance / jnp.where(unit > 0, unit, 1.0)

    def conditional(log_beta):
        logits = jnp.where(self_pair, -jnp.inf, -jnp.exp(log_beta)[:, None] * distance)
        return jax.nn.softmax(logits, axis=1)

    def bisect(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        entropy = jax.scipy.special.entr(conditional(middle)).sum(1)
        wide = entropy > jnp.log(perplexity)
        return jnp.where(wide, middle, low), jnp.where(wide, high, middle)

    bounds = (jnp.full(n, -12.0), jnp.full(n, 24.0))
    low, high = jax.lax.fori_loop(0, 30, bisect, bounds)
    p = conditional((low + high) / 2)
    return (p + p.T) / (2 * n)

"""The inner loop of an attack: gradient steps, projected on the ball and on [0, 1]."""

import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError

Norm = Literal["linf", "l2"]
Logits = Callable[[chex.Array], chex.Array]

STEPS_TO_THE_EDGE = 8
"""The default step is the radius over this: 2.5·radius/20, Madry et al.'s 2.5·ε/steps
at 20 steps. It does not depend on `steps`, or more steps would be another attack."""


class Search(NamedTuple):
    """Where an attack stands: the image at hand, and the worst one seen.

    Attributes:
      at: [B, H, W, C], not looked at yet.
      images: [B, H, W, C], the worst so far.
      odds: [B], log of its odds against the label: log Σ_{c≠y} exp(l_c) − l_y.
      fooled: bool [B], whether it is classified wrongly.
      alive: bool [B], whether any gradient so far was not zero.
    """

    at: chex.Array
    images: chex.Array
    odds: chex.Array
    fooled: chex.Array
    alive: chex.Array


def search(
    rng: chex.PRNGKey,
    index: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    logits_fn: Logits,
    norm: Norm,
    radius: float,
    steps: int,
    step_size: float | None,
    restarts: int,
) -> Search:
    """The attack of `pgd` on checked arrays; `index` int [B] names the examples."""
    if step_size is None:
        step_size = radius / STEPS_TO_THE_EDGE
    clean = jnp.asarray(images)
    about = (clean, jnp.asarray(labels), jnp.float32(radius), jnp.float32(step_size))
    options = {"logits_fn": logits_fn, "norm": norm}
    off = jnp.zeros(len(clean), bool)
    odds = jnp.full(len(clean), -jnp.inf, jnp.float32)
    # Copies, for each is donated.
    now = Search(jnp.copy(clean), jnp.copy(clean), odds, off, jnp.copy(off))
    now = _repeat(now, 1, *about, **options)
    if not np.isfinite(np.asarray(now.odds)).all():
        raise UsageError(
            "pgd: logits_fn must give finite logits for the images as they are, got "
            "NaN or inf; the encoder or the probe has diverged"
        )
    for restart in range(restarts if radius else 0):
        start = random_start(
            jax.random.fold_in(rng, restart), index, clean, norm=norm, radius=radius
        )
        now = _repeat(now._replace(at=start), steps + 1, *about, **options)
    return now


@functools.partial(jax.jit, static_argnames="norm")
def random_start(
    rng: chex.PRNGKey,
    index: chex.Array,
    images: chex.Array,
    *,
    norm: Norm,
    radius: chex.Numeric,
) -> chex.Array:
    """Uniform in the ball around each image, then into [0, 1].

    Args:
      rng: that of an example is `fold_in(rng, its index)`.
      index: int [B], naming the examples.
      images: float32 [B, H, W, C] in [0, 1].
      norm, radius: of the ball.

    Returns:
      float32 [B, H, W, C].
    """
    shape = images.shape[1:]

    def noise(i):
        rng_way, rng_far = jax.random.split(jax.random.fold_in(rng, i))
        if norm == "linf":
            return jax.random.uniform(rng_way, shape, minval=-1.0, maxval=1.0)
        way = jax.random.normal(rng_way, shape)
        far = jax.random.uniform(rng_far) ** (1 / math.prod(shape))
        return way * (far / jnp.linalg.norm(way.ravel()))

    moved = images + radius * jax.vmap(noise)(index)
    return _project(moved, images, radius, norm)


def _repeat(now: Search, count: int, *about, **options) -> Search:
    """`count` steps. On CPU a convolution inside a compiled loop is slow."""
    if jax.default_backend() != "cpu":
        return _steps(now, count, *about, **options)
    for _ in range(count):
        now = _step(now, *about, **options)
    return now


def _advance(now: Search, clean, labels, radius, step_size, *, logits_fn, norm):
    """Looks at the image at hand, keeps it if it is the worst, and moves on."""

    def odds_of(x):
        logits = logits_fn(x).astype(jnp.float32)
        own = labels[:, None] == jnp.arange(logits.shape[1])[None]
        others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=1)
        odds = others - jnp.sum(jnp.where(own, logits, 0.0), axis=1)
        return jnp.sum(odds), (odds, jnp.argmax(logits, axis=1) != labels)

    gradient, (odds, fooled) = jax.grad(odds_of, has_aux=True)(now.at)
    # What is not finite is no attack; NaN is no larger than anything either.
    fooled &= jnp.isfinite(odds)
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
    worse = jnp.where(fooled == now.fooled, odds > now.odds, fooled)
    kept = jnp.where(worse[:, None, None, None], now.at, now.images)
    alive = now.alive | jnp.any(gradient != 0, axis=(1, 2, 3))
    at = now.at + step_size * _direction(gradient, norm)
    return Search(
        _project(at, clean, radius, norm),
        kept,
        jnp.where(worse, odds, now.odds),
        jnp.where(worse, fooled, now.fooled),
        alive,
    )


_STATIC = ("logits_fn", "norm")
_step = jax.jit(_advance, static_argnames=_STATIC, donate_argnums=0)


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnums=0)
def _steps(now: Search, count, *about, logits_fn, norm) -> Search:
    def body(_, now):
        return _advance(now, *about, logits_fn=logits_fn, norm=norm)

    return jax.lax.fori_loop(0, count, body, now)


def _direction(gradient, norm: Norm):
    """Sign, or unit vector; 0 where there is no gradient."""
    if norm == "linf":
        return jnp.sign(gradient)
    tiny = jnp.finfo(jnp.float32).tiny
    # Squares of what is as small as a gradient of certain logits would underflow.
    largest = jnp.max(jnp.abs(gradient), axis=(1, 2, 3), keepdims=True)
    gradient = gradient / jnp.maximum(largest, tiny)
    return gradient / jnp.maximum(_length(gradient), tiny)


def _project(x, clean, radius, norm: Norm):
    if norm == "linf":
        low, high = jnp.maximum(clean - radius, 0.0), jnp.minimum(clean + radius, 1.0)
        return jnp.clip(x, low, high)
    moved = x - clean
    tiny = jnp.finfo(jnp.float32).tiny
    moved *= jnp.minimum(1.0, radius / jnp.maximum(_length(moved), tiny))
    # The clean image is in the box, so clipping moves nothing away from it.
    return jnp.clip(clean + moved, 0.0, 1.0)


def _length(x):
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2, 3), keepdims=True))

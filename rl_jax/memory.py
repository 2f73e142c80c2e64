"""What methods remember from step to step: moving averages and queues."""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError

_MOST = 2**31 - 1


def ema(old: chex.ArrayTree, new: chex.ArrayTree, decay: chex.Numeric):
    """Exponential moving average of a tree: decay·old + (1 − decay)·new.

    Written as new + decay·(old − new): exactly `new` for decay = 0, and exactly `old`
    where both are equal.

    Args:
      old, new: trees of arrays of the same structure, shapes and dtypes.
      decay: in [0, 1], a float or a scalar array.

    Returns:
      A tree like `old`.

    Raises:
      UsageError: for floats of 16 bits or fewer, in which small steps are lost, or a
        decay out of range.
    """
    _check("ema: decay must be in [0, 1]", decay, _is_share)

    def move(o, n):
        if jnp.issubdtype(o.dtype, jnp.floating) and jnp.finfo(o.dtype).bits < 32:
            raise UsageError(
                f"ema: an average of {o.dtype} stands still, for its small steps are "
                "lost in rounding; keep parameters and statistics in float32 and "
                "compute in 16 bits (`param_dtype` and `dtype` of flax)"
            )
        return n + jnp.asarray(decay, o.dtype) * (o - n)

    return jax.tree.map(move, old, new)


def cosine_decay(step: chex.Numeric, *, start: float, total_steps: int) -> chex.Array:
    """BYOL's decay 1 − (1 − τ₀)(cos(πt/T) + 1)/2 (Grill et al. 2020, arXiv:2006.07733).

    Args:
      step: t, counted in optimizer steps; held at T beyond T.
      start: τ₀ in [0, 1].
      total_steps: T ≥ 1.

    Returns:
      Scalar float32, from τ₀ at t = 0 to 1 at t = T.

    Raises:
      UsageError: for values out of range.
    """
    share = _share_of_way("cosine_decay", step, start, total_steps)
    return 1.0 - (1.0 - start) * (jnp.cos(math.pi * share) + 1.0) / 2.0


def linear_decay(step: chex.Numeric, *, start: float, total_steps: int) -> chex.Array:
    """I-JEPA's decay τ₀ + (1 − τ₀)·t/T (Assran et al. 2023, arXiv:2301.08243).

    Args:
      step: t, counted in optimizer steps; held at T beyond T.
      start: τ₀ in [0, 1].
      total_steps: T ≥ 1.

    Returns:
      Scalar float32, from τ₀ at t = 0 to 1 at t = T.

    Raises:
      UsageError: for values out of range.
    """
    share = _share_of_way("linear_decay", step, start, total_steps)
    return 1.0 - (1.0 - start) * (1.0 - share)


def _share_of_way(
    schedule: str, step: chex.Numeric, start: float, total_steps: int
) -> chex.Array:
    """t/T, at most 1."""
    _check(f"{schedule}: start must be in [0, 1]", start, _is_share)
    least = f"{schedule}: total_steps must be at least 1"
    _check(least, total_steps, lambda value: value >= 1)
    return jnp.minimum(jnp.asarray(step, jnp.float32) / total_steps, 1.0)


class Queue(NamedTuple):
    """A first-in first-out store of rows.

    Attributes:
      rows: [K, D]; the leading `valid` rows are filled.
      head: int32, where the next row goes.
      valid: int32 in [0, K], count of filled rows.
    """

    rows: chex.Array
    head: chex.Array
    valid: chex.Array


def empty_queue(size: int, dim: int) -> Queue:
    """A queue of `size` float32 rows of `dim` entries, none of them filled.

    Raises:
      UsageError: for a size of 2³¹ or more, which int32 cannot count.
    """
    if size > _MOST:
        raise UsageError(
            f"empty_queue: size (queue_size) must be at most {_MOST:,}, got {size:,}"
        )
    zero = jnp.zeros([], jnp.int32)
    return Queue(jnp.zeros((size, dim), jnp.float32), zero, zero)


def enqueue(queue: Queue, rows: chex.Array) -> Queue:
    """Writes `rows` [B, D] over the oldest rows, wrapping at the end; any B ≤ K.

    Raises:
      UsageError: when more rows are given than the queue holds, or of another width.
    """
    size, count = len(queue.rows), len(rows)
    if rows.shape[1:] != queue.rows.shape[1:]:
        raise UsageError(
            f"enqueue: expected rows [B, {queue.rows.shape[1]}], got {rows.shape}"
        )
    if count > size:
        raise UsageError(
            f"enqueue: {count} rows do not fit a queue of {size}; make the queue "
            "(queue_size) at least as large as the keys of one step"
        )
    slots = (queue.head + jnp.arange(count, dtype=jnp.int32)) % size
    return Queue(
        queue.rows.at[slots].set(rows.astype(queue.rows.dtype)),
        (queue.head + count) % size,
        jnp.minimum(queue.valid + count, size),
    )


def _is_share(value: np.ndarray) -> np.ndarray:
    return (value >= 0) & (value <= 1)


def _check(expected: str, value: chex.Numeric, holds: Callable) -> None:
    # A sweep may trace a number; nothing is known of it here. What is known is compared
    # by NumPy, for within a function that is traced jax would trace that too.
    if not isinstance(value, jax.core.Tracer) and not holds(np.asarray(value)).all():
        raise UsageError(f"{expected}, got {value}")

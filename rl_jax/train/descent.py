"""Descent along an update, at a rate that moves, and for some networks stays."""

from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax.errors import UsageError


def descend(
    factory: str,
    schedule: optax.Schedule,
    *,
    peak: float,
    constant: Sequence[str] = (),
) -> optax.GradientTransformation:
    """−γ_t u, and −γ u for the networks that are named, γ the peak rate.

    Args:
      factory: for the message.
      schedule: γ_t of t updates.
      peak: γ, without warm-up or decay.
      constant: names of networks as parameters have them, alone or beside an online
        probe.

    Raises:
      UsageError: from `init`, for names of networks that the parameters lack.
    """
    if not constant:
        return optax.scale_by_learning_rate(schedule)

    def init(params: chex.ArrayTree) -> optax.ScaleByScheduleState:
        known = networks_of(params)
        for name in constant:
            if name not in known:
                raise UsageError(
                    f"{factory}: constant names {name!r}, but the networks here are "
                    f"{', '.join(known) or 'without names'}"
                )
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None):
        del params
        now = schedule(state.count)

        def one(path, u):
            stays = any(name in constant for name in _names(path))
            return jnp.asarray(-peak if stays else -now, u.dtype) * u

        updates = jax.tree_util.tree_map_with_path(one, updates)
        count = optax.safe_increment(state.count)
        return updates, optax.ScaleByScheduleState(count=count)

    return optax.GradientTransformation(init, update)


def networks_of(params: chex.ArrayTree) -> list[str]:
    """Names of networks among parameters, with those of a method beside its probe."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sorted({name for path, _ in leaves for name in _names(path)})


def _names(path: tuple[Any, ...]) -> list[str]:
    """What a path begins with: the network, below `method` where there is a probe."""
    keys = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
    if keys[:1] == ["method"]:
        return keys[1:2]
    return keys[:1]

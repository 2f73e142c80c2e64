"""Descent along an update, at a rate that moves, and for some networks stays."""

from collections.abc import Sequence
from typing import Any

import chex
import jax
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

    def rates(params: chex.ArrayTree) -> chex.ArrayTree:
        known = networks_of(params)
        for name in constant:
            if name not in known:
                raise UsageError(
                    f"{factory}: constant names {name!r}, but the networks here are "
                    f"{', '.join(known) or 'without names'}"
                )
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "stays" if set(_names(path)) & set(constant) else "moves",
            params,
        )

    moving = optax.scale_by_learning_rate(schedule)
    staying = optax.scale_by_learning_rate(peak)
    return optax.partition({"moves": moving, "stays": staying}, rates)


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

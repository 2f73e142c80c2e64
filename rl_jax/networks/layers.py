"""What the blocks of a network return, beside what the network returns."""

import re
from collections.abc import Iterable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.types import Network, Params, State


def tell(
    module: Any, number: int, x: chex.Array, real: chex.Array | None = None
) -> None:
    """Notes what a block of a module returns as its layer of that number.

    Nothing is computed unless the layers are asked for: a training step has no trace
    of them.

    Args:
      module: of Linen or NNX, that has the block; called in its `__call__`.
      number: from 1, in order of execution.
      x: [B, ..., D], the output of the block.
      real: bool [B, L] of x [B, L, D], the tokens that are no padding; None: all.
    """
    if not isinstance(module, nn.Module):
        from rl_jax.networks import nnx  # takes as long to import as Linen

        nnx.tell(module, number, x, real)
    elif telling(module):
        module.sow(
            "intermediates",
            f"layer{number}",
            pooled(x, real),
            init_fn=lambda: None,
            reduce_fn=lambda _, new: new,
        )


def telling(module: nn.Module) -> bool:
    """Whether the layers of this pass are asked for."""
    return module.is_mutable_collection("intermediates")


def pooled(x: chex.Array, real: chex.Array | None = None) -> chex.Array:
    """[B, ..., D] to float32 [B, D], the mean over positions or over `real` tokens."""
    x = jnp.asarray(x, jnp.float32)
    if real is None:
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
    return mean_of_tokens(x, real)


def mean_of_tokens(x: jax.Array, real: jax.Array) -> jax.Array:
    """Mean of [B, L, D] over the tokens that are `real` [B, L]; 0 where none is."""
    count = jnp.maximum(jnp.sum(real, axis=1), 1)
    return jnp.sum(x * real[..., None], axis=1) / count[:, None]


def told(intermediates: State) -> dict[str, chex.Array]:
    """Every layer that a pass noted, numbered on from one part of a module to the next.

    A module's own come before those of its parts.
    """

    def values(tree):
        found = [tree[name] for name in in_order(tree)]
        parts = [part for part in tree.values() if isinstance(part, dict)]
        return found + [value for part in parts for value in values(part)]

    return {f"layer{i + 1}": value for i, value in enumerate(values(intermediates))}


def in_order(names: Iterable[str]) -> list[str]:
    """The names of layers among names, first block first.

    `jit` returns a dict with its names sorted as words, `layer10` before `layer2`.
    """
    own = [name for name in names if re.fullmatch(r"layer[1-9]\d*", name)]
    return sorted(own, key=lambda name: int(name.removeprefix("layer")))


def layers_of(
    network: Network, params: Params, state: State, x: chex.Array
) -> dict[str, chex.Array]:
    """What each block of a network makes of x, in evaluation mode.

    The forward pass stands beside that of `network.apply`: under `jit` the compiler
    sees that they are the same and runs one, without `jit` there are two.

    Args:
      network: any; one that does not tell its layers has none.
      params, state: its own.
      x: what it takes.

    Returns:
      `{"layer1": [B, D_1], "layer2": [B, D_2], ...}` float32, in order of execution,
      the mean over positions or tokens; {} without layers.
    """
    return {} if network.layers is None else network.layers(params, state, x)

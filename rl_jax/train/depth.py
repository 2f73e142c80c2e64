"""Rates that differ with the depth of a parameter in the encoder."""

import re
from typing import Any

import chex
import jax
import optax

from rl_jax.errors import UsageError

BLOCK = re.compile(r"(?:stage(\d+)_)?block(\d+)")
"""Names of blocks: those of `vit` and `text`, and of `resnet`."""
LAST = "norm"
"""What normalises the sum of all blocks, and so stands behind them."""
EMBED = "embed"


def scale_by_depth(
    factory: str, *, layer_decay: float, embed_rate: float
) -> optax.GradientTransformation:
    """What is deeper in the encoder moves more, as where trained weights are tuned.

    Of L blocks the updates of block i are multiplied by d^(L + 1 − i), what comes
    before them by d^(L + 1), and what is behind, heads of methods too, by 1. Clark et
    al. 2020, arXiv:2003.10555, and with these exponents Bao et al. 2022,
    arXiv:2106.08254.

    Args:
      factory: for the message.
      layer_decay: d in (0, 1].
      embed_rate: of the embedding of patches alone, beside that; 0: it stays.

    Raises:
      UsageError: from `init`, for an encoder without blocks or an embedding.
    """

    def init(params: chex.ArrayTree) -> optax.EmptyState:
        if layer_decay != 1 and not _depths(params):
            raise UsageError(
                f"{factory}: layer_decay={layer_decay} is of encoders whose blocks are "
                "named block1, block2, ..., as of vit and resnet; here are none: leave "
                "it at 1"
            )
        if embed_rate != 1 and not any(map(_embeds, _paths(params))):
            raise UsageError(
                f"{factory}: embed_rate={embed_rate} is of encoders with an embedding "
                "of patches, as vit; here is none: leave it at 1"
            )
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        depths = _depths(updates)
        behind = len(depths) + 1

        def scaled(path, u):
            path = _names(path)
            share = layer_decay ** (behind - _depth(path, depths))
            if _embeds(path):
                share *= embed_rate
            return u * share if share != 1 else u

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)


def _names(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names on the way to a parameter, without that of a method beside a probe."""
    names = tuple(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
    return names[1:] if names[:1] == ("method",) else names


def _paths(params: chex.ArrayTree) -> list[tuple[str, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [_names(path) for path, _ in leaves]


def _block(path: tuple[str, ...]) -> tuple[int, int] | None:
    """Stage and number of the block that a parameter of the encoder is in."""
    if path[:1] != ("encoder",):
        return None
    found = next(filter(None, map(BLOCK.fullmatch, path)), None)
    return None if found is None else (int(found[1] or 0), int(found[2]))


def _depths(params: chex.ArrayTree) -> dict[tuple[int, int], int]:
    """The blocks of the encoder, numbered from 1 in the order of execution."""
    blocks = {block for path in _paths(params) if (block := _block(path))}
    return {block: depth for depth, block in enumerate(sorted(blocks), 1)}


def _depth(path: tuple[str, ...], depths: dict[tuple[int, int], int]) -> int:
    """From 0, before the blocks, to one more than there are."""
    block = _block(path)
    if block is not None:
        return depths[block]
    before = path[:1] == ("encoder",) and path[-2:-1] != (LAST,)
    return 0 if before else len(depths) + 1


def _embeds(path: tuple[str, ...]) -> bool:
    return path[:2] == ("encoder", EMBED)

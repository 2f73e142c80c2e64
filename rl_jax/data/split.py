"""Which examples are kept for testing: the same ones for ever."""

import logging

import numpy as np

from rl_jax.data.order import epoch_order
from rl_jax.errors import UsageError

_log = logging.getLogger("rl_jax.data")
_SEED = 20_261_123


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Choose examples, each class in proportion to its size (largest remainders).

    Drawn by raw Philox bits, so that the choice never changes.

    Args:
      labels: [n] integers >= 0.
      count: how many to choose, in [0, n].

    Returns:
      [n] bool, true for the chosen ones.
    """
    sizes = np.bincount(labels)
    whole, rest = np.divmod(sizes * count, len(labels))
    whole[np.argsort(-rest, kind="stable")[: count - whole.sum()]] += 1
    held = np.zeros(len(labels), bool)
    for label in np.flatnonzero(sizes):
        members = np.flatnonzero(labels == label)
        order = epoch_order(_SEED, int(label), len(members))
        held[members[order[: whole[label]]]] = True
    return held


def check_share(held_out: float, factory: str) -> None:
    """Refuse a share of examples to keep for testing that is not in [0, 1)."""
    if not 0 <= held_out < 1:
        raise UsageError(f"{factory}: held_out must be in [0, 1), got {held_out}")


def nothing_held_out(factory: str, name: str, held_out: float) -> None:
    """Tell that a share is too small for anything to be kept for testing."""
    _log.warning(
        "%s: nothing of %r is held out for testing: held_out=%g of it is too little",
        factory,
        name,
        held_out,
    )

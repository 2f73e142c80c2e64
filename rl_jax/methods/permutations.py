"""Sets of permutations that are far from each other, for jigsaw puzzles."""

import functools
import math
from typing import NamedTuple

import numpy as np

from rl_jax.errors import UsageError

_ALL = 9
_CANDIDATES = 2**17
_SEED = 1603_09246


class PermutationSet(NamedTuple):
    """Permutations of the same tiles.

    Attributes:
      rows: int32 [K, n]; place j of a row holds the tile that is shown there.
      distance: the smallest Hamming distance of two rows: the number of places in which
        they differ.
    """

    rows: np.ndarray
    distance: int


@functools.cache
def permutation_set(count: int, tiles: int) -> PermutationSet:
    """K permutations of n tiles, greedily as far apart as possible.

    The first is the identity; each next one is the permutation whose smallest Hamming
    distance to those chosen is largest; of several, that of the largest sum of
    distances; of those, the first in lexicographic order. Noroozi & Favaro (2016,
    arXiv:1603.09246) go by the sum alone, which lets two of the set be near each other.

    Up to 9 tiles all permutations compete, beyond that 2^17 distinct ones drawn by raw
    Philox bits, in the order they were drawn. The result is always the same.

    Args:
      count: K >= 2.
      tiles: n >= 2.

    Returns:
      A `PermutationSet`.

    Raises:
      UsageError: where there are fewer than K permutations to choose from.
    """
    available = math.factorial(tiles) if tiles <= _ALL else _CANDIDATES
    if not 2 <= count <= available:
        raise UsageError(
            f"jigsaw: permutations must be in [2, {available}] for {tiles} tiles, got "
            f"{count}"
        )
    pool = _every(tiles) if tiles <= _ALL else _some(tiles)
    chosen, distance = [0], tiles
    nearest = np.full(len(pool), tiles)
    total = np.zeros(len(pool), np.int64)
    for _ in range(count - 1):
        differ = (pool != pool[chosen[-1]]).sum(1)
        nearest, total = np.minimum(nearest, differ), total + differ
        # Sums stay below tiles · count.
        best = int(np.argmax(nearest * (tiles * count) + total))
        distance = min(distance, int(nearest[best]))
        chosen.append(best)
    rows = pool[chosen].astype(np.int32)
    rows.flags.writeable = False
    return PermutationSet(rows, distance)


def _every(tiles: int) -> np.ndarray:
    """All permutations in lexicographic order, int8 [n!, n]."""
    rows = np.zeros((1, 0), np.int8)
    for n in range(1, tiles + 1):
        first = np.repeat(np.arange(n, dtype=np.int8), len(rows))[:, None]
        rest = np.tile(rows, (n, 1))
        rows = np.concatenate([first, rest + (rest >= first)], axis=1)
    return rows


def _some(tiles: int) -> np.ndarray:
    """The identity, then random permutations, all different: int8 [2^17, n]."""
    bits = np.random.Philox(key=np.array([_SEED, tiles], np.uint64))
    raw = bits.random_raw(2 * _CANDIDATES * tiles).reshape(-1, tiles)
    drawn = np.argsort(raw, axis=1, kind="stable").astype(np.int8)
    drawn = np.concatenate([np.arange(tiles, dtype=np.int8)[None], drawn])
    _, first = np.unique(drawn, axis=0, return_index=True)
    return drawn[np.sort(first)[:_CANDIDATES]]

"""FactorVAE score: which dimension stays still while one factor is held?"""

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.factors import checked_bins, checked_factors, in_bins, standard

_CHUNK = 2**22
"""Values of codes held at a time."""


@checked
def factor_vae_score(
    z: chex.Array,
    s: chex.Array,
    *,
    batch_size: int = 64,
    votes: int = 800,
    bins: int = 20,
    seed: int = 0,
) -> float:
    """FactorVAE score (Kim & Mnih 2018, arXiv:1802.05983, section 4).

    A vote: draw a factor j and one of its values (as often as it occurs), take a batch
    of examples that share it, and find the dimension i of least variance, relative to
    its variance over all examples. A majority vote then names a factor for each
    dimension; the score is how often it names the right one, on votes of its own.

    Args:
      z: [n, d] codes. Constant dimensions take no part; with no other, the score is
        that of always naming the same factor.
      s: [n, k] true factors, k ≥ 2: integers as they are, floating ones in bins of
        equal width.
      batch_size: L ≥ 2 examples, drawn with replacement.
      votes: that the majority vote is made of, ≥ 1, and as many that score it.
      bins: of floating factors, in [2, n].
      seed: of the draws.

    Returns:
      In [0, 1]; about 1/k by chance. A high score does not mean that a dimension holds
      one factor only.

    Raises:
      UsageError: for shapes that do not fit, values that are not finite, a constant
        factor, a value of a factor with a single example, or counts too small.
    """
    name = "factor_vae_score"
    z, s = checked_factors(name, z, s, least=(1, 2))
    checked_bins(name, bins, len(z))
    for what, count, least in (("batch_size", batch_size, 2), ("votes", votes, 1)):
        if count < least:
            raise UsageError(f"{name}: {what} must be at least {least}, got {count}")
    factors = in_bins(s, bins)
    alone = [np.bincount(column)[column] == 1 for column in factors.T]
    for j, rows in enumerate(alone):
        if rows.any():
            raise UsageError(
                f"{name}: factor {j} has a value near {s[rows.argmax(), j]:.4g} with "
                "one example only, around which nothing varies; use fewer bins or "
                "leave it out"
            )

    rng = np.random.default_rng(seed)
    held = rng.integers(factors.shape[1], size=2 * votes)
    batches = np.empty((2 * votes, batch_size), int)
    for j, column in enumerate(factors.T):
        order, count = np.argsort(column, kind="stable"), np.bincount(column)
        value = column[rng.integers(len(z), size=np.sum(held == j))][:, None]
        place = rng.integers(count[value], size=(len(value), batch_size))
        batches[held == j] = order[np.cumsum(count)[value] - count[value] + place]

    constant, scaled = z.max(0) == z.min(0), standard(z)
    at_a_time = max(_CHUNK // (batch_size * z.shape[1]), 1)
    still = np.empty(2 * votes, int)
    for start in range(0, 2 * votes, at_a_time):
        part = slice(start, start + at_a_time)
        variance = scaled[batches[part]].var(1)
        still[part] = np.where(constant[None], np.inf, variance).argmin(1)

    table = np.zeros((z.shape[1], factors.shape[1]), int)
    np.add.at(table, (still[:votes], held[:votes]), 1)
    return float(np.mean(table.argmax(1)[still[votes:]] == held[votes:]))

"""Confidence intervals of any statistic of rows by leaving groups of them out."""

from collections.abc import Callable

import chex
import numpy as np
from scipy import stats

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.intervals import Interval


@checked
def jackknife(
    statistic: Callable[..., chex.ArrayTree],
    *rows: chex.Array,
    groups: int = 10,
    confidence: float = 0.95,
    corrected: bool = False,
) -> Interval:
    """Delete-a-group jackknife (Quenouille 1956; Tukey 1958; Kott 2001).

    With θ_g the statistic without group g of G, each of m rows, their mean θ̄ and t the
    quantile of Student's distribution with G − 1 degrees of freedom:

        error² = (n − m)² / (n m (G − 1)) · Σ_g (θ_g − θ̄)²,      θ ± t·error,

    which is (G − 1)/G Σ_g (θ_g − θ̄)² where n = G m.

    For statistics that are smooth in the rows, pairs of rows among them, where a
    bootstrap would count copies of a row as pairs. The groups are drawn, always the
    same for n rows: data may be in the order of its classes. n mod G rows stay in
    always, so that all θ_g are of one shape and compile once; the factor allows for it.

    Args:
      statistic: `(*rows) -> scalar or [K]`.
      rows: arrays [n, ...] of the same n ≥ 2·groups examples.
      groups: G ≥ 2.
      confidence: of the interval, in (0, 1).
      corrected: put it around θ − (n − m)/m · (θ̄ − θ), which has no bias of order 1/n,
        and widen it to hold θ: for statistics that are too small or too large in few
        rows, as ranks are. RankMe of 10 equal directions and 50 rows is 9.7, and its
        intervals hold 10 in 7 % of the cases without it, in 98 % with it. Far fewer
        rows than that for a dimension are too few for it as well.

    Returns:
      An `Interval` of the statistic's shape; its ends are NaN where the statistic of
      all rows, or without one of the groups, is not finite.

    Raises:
      UsageError: too few rows or groups, or a confidence out of range.
    """
    arguments.counts("jackknife", 2, groups=groups)
    if not 0 < confidence < 1:
        raise UsageError(f"jackknife: confidence must be in (0, 1), got {confidence}")
    lengths = {len(x) for x in rows}
    n = min(lengths, default=0)
    if len(lengths) != 1 or n < 2 * groups:
        raise UsageError(
            f"jackknife: expected arrays of the same n >= {2 * groups} rows, got "
            f"{[len(x) for x in rows]}"
        )
    value = np.asarray(statistic(*rows), np.float64)
    drawn = np.random.default_rng(0).permutation(n)
    size = n // groups
    place = np.where(drawn < size * groups, drawn % groups, -1)
    left = np.stack(
        [
            np.asarray(statistic(*(x[place != g] for x in rows)), np.float64)
            for g in range(groups)
        ]
    )
    known = np.isfinite(value) & np.isfinite(left).all(0)
    left = np.where(known, left, np.nan)
    factor = (n - size) ** 2 / (n * size * (groups - 1))
    error = np.sqrt(factor * np.square(left - left.mean(0)).sum(0))
    half = stats.t.ppf((1 + confidence) / 2, groups - 1) * error
    middle = value - (n - size) / size * (left.mean(0) - value) if corrected else value
    low, high = np.minimum(middle - half, value), np.maximum(middle + half, value)
    return Interval(value, low, high)

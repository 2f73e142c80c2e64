"""Disentanglement, completeness and informativeness of a code."""

import math
from typing import Literal, NamedTuple

import chex
import numpy as np
from scipy.special import entr, ndtri

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.factors import checked_factors, standard
from rl_jax.evaluate.lasso import lasso

_FALSE_ALARM = 1e-3
"""D and C are relative to all importance: one weight of chance would make them 1."""
_TREES, _DEPTH = 50, 12


class DCI(NamedTuple):
    """What Eastwood & Williams (2018) measure; 1 is best in all three.

    Attributes:
      disentanglement: does a dimension tell of one factor only? In [0, 1].
      completeness: is a factor told by one dimension only? In [0, 1].
      informativeness: the mean R² of the factors on held-out examples, in [0, 1]. Their
        "informativeness score" is an error, √(1 − R²); this is none.
      importance: R float64 [d, k] >= 0, of each dimension for each factor.
      r2: float64 [k], the R² of each factor, in [0, 1].
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    r2: np.ndarray


@checked
def dci(
    z: chex.Array,
    s: chex.Array,
    *,
    regressor: Literal["lasso", "forest"] = "lasso",
    penalty: float | None = None,
    seed: int = 0,
) -> DCI:
    """DCI (Eastwood & Williams 2018, "A framework for … disentangled representations").

    Each factor is regressed on the whole code. With R_ij the importance of dimension i
    for factor j,

        D = Σ_i ρ_i [1 − H_k(R_i· / Σ_j R_ij)],    ρ_i = Σ_j R_ij / Σ R,
        C = Σ_j σ_j [1 − H_d(R_·j / Σ_i R_ij)],    σ_j = Σ_i R_ij / Σ R,

    H_b the entropy to base b. The weights σ of completeness are those of Locatello et
    al. (2019, arXiv:1811.12359). A code that tells nothing has D = C = 0.

    Args:
      z: [n, d] codes, d ≥ 2; standardised here.
      s: [n, k] true factors, k ≥ 2, as numbers; standardised here.
      regressor: "lasso", R = |W|: sees what is linear. "forest", R the decrease of
        variance at the splits of a random forest of scikit-learn: any shape, also
        factors that are names; slow, its time grows as n·d·k.
      penalty: of the lasso ½‖s − zW‖²/n + penalty·‖W‖₁. None: the height that the
        correlations of a code and factors that are independent pass once in a thousand
        times, a normal quantile over √n.
      seed: of the forest, and of the halves: importance is that of all examples, R² of
        a fit to one half on the other.

    Returns:
      A `DCI`.

    Raises:
      UsageError: for shapes that do not fit, values that are not finite, a constant
        factor, fewer than four examples, or arguments out of range.
    """
    z, s = checked_factors("dci", z, s, least=(2, 2))
    if regressor not in ("lasso", "forest"):
        raise UsageError(f"dci: regressor must be lasso or forest, got {regressor!r}")
    if len(z) < 4:
        raise UsageError(f"dci: needs at least 4 examples, got {len(z)}")
    if penalty is not None and not 0 < penalty < math.inf:
        raise UsageError(f"dci: penalty must be > 0 and finite, got {penalty}")
    z, s = standard(z), standard(s)
    # Rows may stand in the order of a factor.
    order = np.random.default_rng(seed).permutation(len(z))
    fit, held = order[: len(z) // 2], order[len(z) // 2 :]
    if regressor == "lasso":
        importance, _ = _lasso(z, s, z[:1], penalty)
        _, predicted = _lasso(z[fit], s[fit], z[held], penalty)
    else:
        importance, _ = _forest(z, s, z[:1], seed)
        _, predicted = _forest(z[fit], s[fit], z[held], seed)
    spread = np.square(s[held] - s[held].mean(0)).sum(0)
    missed = np.square(s[held] - predicted).sum(0)
    # A factor may be constant in the half that scores.
    r2 = np.clip(1 - missed / np.where(spread > 0, spread, np.inf), 0, 1)
    r2 = np.where(spread > 0, r2, 0.0)
    return DCI(
        _concentration(importance),
        _concentration(importance.T),
        float(r2.mean()),
        importance,
        r2,
    )


def _concentration(importance: np.ndarray) -> float:
    """1 − the entropy of each row to the base of its length, weighted by its sum."""
    total = importance.sum(1, keepdims=True)
    if not total.sum() > 0:
        return 0.0
    share = importance / np.where(total > 0, total, 1.0)
    each = 1 - entr(share).sum(1) / np.log(importance.shape[1])
    return float(np.clip(total[:, 0] @ each / total.sum(), 0, 1))


def _lasso(z, s, held, penalty):
    """|W| [d, k], and the factors of the held-out codes."""
    if penalty is None:
        tail = _FALSE_ALARM / (2 * z.shape[1] * s.shape[1])
        penalty = -float(ndtri(tail)) / math.sqrt(len(z))
    mean, level = z.mean(0), s.mean(0)
    z, s, held = z - mean, s - level, held - mean
    gram, correlations = z.T @ z / len(z), z.T @ s / len(z)
    w = np.stack([lasso(gram, c, penalty=penalty) for c in correlations.T], axis=1)
    # The penalty shrinks what it keeps; one number a factor undoes it.
    line, scores = z @ w, held @ w
    square = np.square(line).sum(0)
    slope = (line * s).sum(0) / np.where(square > 0, square, 1.0)
    return np.abs(w), level + slope * scores


def _forest(z, s, held, seed):
    """Importances [d, k], and the factors of the held-out codes."""
    from sklearn.ensemble import RandomForestRegressor

    columns = []
    for target in s.T:
        forest = RandomForestRegressor(
            _TREES, max_depth=_DEPTH, random_state=seed, n_jobs=1
        )
        forest.fit(z, target)
        columns.append((forest.feature_importances_, forest.predict(held)))
    importance, predicted = (np.stack(c, axis=1) for c in zip(*columns, strict=True))
    return importance, predicted

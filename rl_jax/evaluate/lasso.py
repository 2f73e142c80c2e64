"""The lasso, exactly: also where dimensions are nearly equal."""

import numpy as np

_TOLERANCE = 1e-12
"""Of the conditions of a minimum, for columns of variance 1."""


def lasso(gram: np.ndarray, correlation: np.ndarray, *, penalty: float) -> np.ndarray:
    """Feature-sign search (Lee et al. 2007, NIPS, "Efficient sparse coding …").

    argmin_w ½ wᵀGw − cᵀw + λ‖w‖₁, from w = 0. While the signs stay, this is a linear
    system, also where G is nearly singular and descent would take millions of steps:

        w ← w − t (G_AA + εI)⁻¹ (Gw − c + λ sign w)_A,    A where w is not 0,

    t the best of 1 and those where a weight gets to 0, which then leaves A. Where the
    gradient on A is 0, the weight of the largest |Gw − c|, if above λ, enters it. ε is
    the rounding of G, so that equal dimensions have a step too.

    Args:
      gram: G = zᵀz/n float64 [d, d], of columns of variance 1 or less.
      correlation: c = zᵀs/n [d].
      penalty: λ > 0.

    Returns:
      w [d], with exact zeros.
    """
    w = np.zeros(len(correlation))
    for _ in range(20 * (len(w) + 10)):
        slope = gram @ w - correlation
        sign, active = np.sign(w), w != 0
        if np.abs(slope + penalty * sign)[active].max(initial=0) <= _TOLERANCE:
            excess = np.where(active, 0, np.abs(slope) - penalty)
            new = excess.argmax()
            if excess[new] <= _TOLERANCE:
                break
            active[new], sign[new] = True, -np.sign(slope[new])
        a = np.flatnonzero(active)
        block = gram[np.ix_(a, a)]
        step = np.linalg.solve(
            block + _TOLERANCE * np.eye(len(a)), -(slope + penalty * sign)[a]
        )
        w[a] = _best(w[a], step, slope[a] @ step, step @ block @ step, penalty)
    return w


def _best(w, step, slope, curvature, penalty) -> np.ndarray:
    """The lowest of the whole step and of those where a weight gets to 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = -w / step
    crossing = np.flatnonzero((zero > 0) & (zero < 1))
    t = np.append(zero[crossing], 1.0)
    points = w + t[:, None] * step
    points[np.arange(len(crossing)), crossing] = 0
    size = np.abs(points).sum(1)
    return points[(t * slope + t**2 * curvature / 2 + penalty * size).argmin()]

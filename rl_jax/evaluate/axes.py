"""Features in units and axes of their own spread, a block of rows at a time."""

from collections.abc import Callable

import numpy as np

from rl_jax.evaluate.blocks import slices

Scores = Callable[[slice], np.ndarray]


def to_axes(
    x: np.ndarray, mean: np.ndarray, std: np.ndarray | float = 1.0
) -> tuple[Scores, np.ndarray]:
    """Principal axes V [D, min(n, D)] of (x − mean) / std, and what x is in them.

    The gradient by W is xᵀ(…), so the solution lies in the span of the rows, which V
    spans with orthonormal columns (or zero ones, where the rank is lower). The penalty
    does not see V: the minimum is the same as in D dimensions.

    Returns:
      `(scores, V)`, where scores(rows) is float64 [b, min(n, D)], (x − mean) / std V of
      a slice of the rows.
    """

    def standard(rows: slice) -> np.ndarray:
        return (x[rows].astype(np.float64) - mean) / std

    n, dim = x.shape
    if n >= dim:
        gram = np.zeros((dim, dim))
        for rows in slices(x):
            block = standard(rows)
            gram += block.T @ block
        basis = np.linalg.eigh(gram)[1]
        return lambda rows: standard(rows) @ basis, basis
    whole = standard(slice(None))
    squares, vectors = np.linalg.eigh(whole @ whole.T)
    real = squares > 1e-12 * squares[-1]
    sigma = np.sqrt(np.where(real, squares, 1.0))
    scores = vectors * (real * sigma)
    return lambda rows: scores[rows], whole.T @ (vectors * (real / sigma))


def deviation(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the columns [D], 1 for constant ones."""
    std = spread(x)
    return np.where(std > 0, std, 1.0)


def spread(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the columns [D], 0 for constant ones."""
    # Below this share of its mean a column is rounding noise around it.
    noise = 1e-14 if x.dtype == np.float64 else 1e-6
    mean = x.mean(0, dtype=np.float64)
    squares = sum(
        np.square(x[rows].astype(np.float64) - mean).sum(0) for rows in slices(x)
    )
    std = np.sqrt(squares / len(x))
    return np.where(std > noise * np.abs(mean), std, 0.0)

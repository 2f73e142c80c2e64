"""Features in units and axes of their own spread."""

import numpy as np


def to_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(x V, V)`: the principal axes V [D, min(n, D)] of float64 x with mean 0.

    The gradient by W is xᵀ(…), so the solution lies in the span of the rows, which V
    spans with orthonormal columns (or zero ones, where the rank is lower). The penalty
    does not see V: the minimum is the same as in D dimensions.
    """
    if len(x) >= x.shape[1]:
        basis = np.linalg.eigh(x.T @ x)[1]
        return x @ basis, basis
    squares, vectors = np.linalg.eigh(x @ x.T)
    real = squares > 1e-12 * squares[-1]
    sigma = np.sqrt(np.where(real, squares, 1.0))
    basis = x.T @ (vectors * (real / sigma))
    return vectors * (real * sigma), basis


def deviation(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the columns [D], 1 for constant ones."""
    std = spread(x)
    return np.where(std > 0, std, 1.0)


def spread(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the columns [D], 0 for constant ones."""
    # Below this share of its mean a column is rounding noise around it.
    noise = 1e-14 if x.dtype == np.float64 else 1e-6
    x = x.astype(np.float64)
    std = x.std(0)
    return np.where(std > noise * np.abs(x.mean(0)), std, 0.0)

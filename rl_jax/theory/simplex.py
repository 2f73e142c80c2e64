"""The simplex equiangular tight frame: where collapsed features end."""

import numpy as np

from rl_jax.errors import UsageError, checked


@checked
def simplex_etf(num_classes: int, *, dim: int | None = None) -> np.ndarray:
    """C unit vectors at the widest equal angles (Papyan et al. 2020, arXiv:2008.08186).

    √(C/(C−1))·Q, where the columns of Q [C, C−1] are an orthonormal basis of the
    vectors with sum 0: Q Qᵀ = I − 11ᵀ/C, so that the Gram matrix is
    (C I − 11ᵀ)/(C−1), 1 on the diagonal and −1/(C−1) elsewhere. Q is Helmert's: its
    column k is (1, …, 1, −k, 0, …, 0)/√(k(k+1)), with k ones.

    Args:
      num_classes: C >= 2.
      dim: D >= C − 1, the width of the vectors; None: C − 1. The others are zero.

    Returns:
      float64 [C, D], unit rows with sum 0. Any rotation of them serves as well.

    Raises:
      UsageError: for fewer than two classes, or too few dimensions.
    """
    if num_classes < 2:
        raise UsageError(f"simplex_etf: num_classes must be >= 2, got {num_classes}")
    least = num_classes - 1
    dim = least if dim is None else dim
    if dim < least:
        raise UsageError(
            f"simplex_etf: {num_classes} classes need dim >= {least}, got {dim}"
        )
    rows = np.zeros((num_classes, dim))
    for k in range(1, num_classes):
        column = np.r_[np.ones(k), -k] / np.sqrt(k * (k + 1))
        rows[: k + 1, k - 1] = column
    return np.sqrt(num_classes / least) * rows


@checked
def simplex_gram(num_classes: int) -> np.ndarray:
    """The cosines of `simplex_etf`: (C I − 11ᵀ)/(C−1), float64 [C, C]; C >= 2.

    Raises:
      UsageError: for fewer than two classes.
    """
    if num_classes < 2:
        raise UsageError(f"simplex_gram: num_classes must be >= 2, got {num_classes}")
    return (num_classes * np.eye(num_classes) - 1.0) / (num_classes - 1)

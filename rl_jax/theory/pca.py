"""What a linear autoencoder can reach: the leading eigenspace, in NumPy float64."""

import chex
import numpy as np

from rl_jax.errors import UsageError, checked


@checked
def pca_projector(covariance: chex.Array, *, k: int) -> np.ndarray:
    """Projector on the k leading eigenvectors (Pearson 1901): P = Σ_{j≤k} u_j u_jᵀ.

    W₂W₁ of every best linear autoencoder. Unique where λ_k > λ_{k+1} only.

    Args:
      covariance: [D, D], symmetric, eigenvalues ≥ 0.
      k: in [0, D].

    Returns:
      [D, D] float64, symmetric, P² = P.

    Raises:
      UsageError: for a matrix that is not square, symmetric and positive
        semi-definite, or k out of range.
    """
    _, vectors = _leading("pca_projector", covariance, k)
    return vectors[:, :k] @ vectors[:, :k].T


@checked
def pca_floor(covariance: chex.Array, *, k: int) -> float:
    """Least error of a code of k linear features (Baldi & Hornik 1989): Σ_{j>k} λ_j.

    min E‖x − W₂W₁x‖² over all W₁ [k, D], W₂ [D, k], x centred.

    Args:
      covariance, k: as in `pca_projector`.

    Returns:
      A number ≥ 0 up to rounding.

    Raises:
      UsageError: as there.
    """
    values, _ = _leading("pca_floor", covariance, k)
    return float(values[k:].sum())


@checked
def linear_autoencoder_error(
    covariance: chex.Array, encoder: chex.Array, decoder: chex.Array
) -> float:
    """Error of a linear autoencoder (Baldi & Hornik 1989): E‖x − W₂W₁x‖² = tr RΣRᵀ.

    R = I − W₂W₁, exactly and without data.

    Args:
      covariance: Σ [D, D] of the centred x.
      encoder: W₁ᵀ [D, k], as a layer keeps its weights.
      decoder: W₂ᵀ [k, D].

    Returns:
      A number ≥ 0 up to rounding.

    Raises:
      UsageError: for shapes that do not fit.
    """
    sigma, first, second = _float64(covariance, encoder, decoder)
    _check("linear_autoencoder_error", sigma)
    if first.shape != second.shape[::-1] or first.shape[:1] != sigma.shape[:1]:
        raise UsageError(
            "linear_autoencoder_error: expected covariance [D, D], encoder [D, k] and "
            f"decoder [k, D], got {sigma.shape}, {first.shape}, {second.shape}"
        )
    rest = np.eye(len(sigma)) - first @ second
    return float(np.einsum("ij,ik,kj->", rest, sigma, rest))


def _leading(name: str, covariance: chex.Array, k: int):
    """Eigenvalues and vectors, the largest first."""
    (sigma,) = _float64(covariance)
    _check(name, sigma)
    if not 0 <= k <= len(sigma):
        raise UsageError(f"{name}: k must be in [0, {len(sigma)}], got {k}")
    values, vectors = np.linalg.eigh(sigma)
    # Rounding of features in 16 bits gives some below 0, too.
    if values[0] < -1e-2 * np.abs(values).max():
        raise UsageError(
            f"{name}: covariance must have no eigenvalue below 0, got {values[0]:.3g}"
        )
    return values[::-1], vectors[:, ::-1]


def _check(name: str, sigma: np.ndarray) -> None:
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1]:
        raise UsageError(f"{name}: covariance must be [D, D], got {sigma.shape}")
    if not np.allclose(sigma, sigma.T):
        raise UsageError(
            f"{name}: covariance must be symmetric, its largest |Σ − Σᵀ| is "
            f"{np.abs(sigma - sigma.T).max()}"
        )


def _float64(*arrays: chex.Array) -> list[np.ndarray]:
    return [np.asarray(x, np.float64) for x in arrays]

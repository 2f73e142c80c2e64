"""In how many directions images differ by more than their views do."""

import chex
import numpy as np
from scipy import linalg, special

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.rounding import rounding

_ROWS = 4096
"""That are in float64 at a time."""


@checked
def lidar(views: chex.Array, *, delta: float = 1e-4, relative: bool = False) -> float:
    """LiDAR (Thilak et al. 2023, arXiv:2312.04000): the rank of the views' LDA matrix.

    Each image is a class, and its q augmented views are the examples. With the mean μ_i
    of the views of image i and the mean μ of these,

        Σ_b = Σ_i (μ_i − μ)(μ_i − μ)ᵀ / (n − 1),
        Σ_w = Σ_ik (z_ik − μ_i)(z_ik − μ_i)ᵀ / (n (q − 1)) + δ I,
        LiDAR = exp H(λ/Σλ),   λ the eigenvalues of Σ_w^−½ Σ_b Σ_w^−½,

    where H(p) = −Σ p log p; as in `rank_me`, without the authors' ε in it. Where RankMe
    counts all directions in use, this counts those that tell images apart although
    their views differ. It is the same for features that are turned or moved.

    The means of q views keep Σ_w/q of what differs between views, so that q must be
    large for Σ_b to be of the images alone: views with nothing of the image in them
    have rank D. The authors take n = 1000 images or more and q = 50 views. Few views
    give larger numbers: compare those of one q.

    Computed in float64; for D > n q in the span of the rows.

    Args:
      views: [n, q, D], n ≥ 2 images, q ≥ 2 views of each, of any float dtype.
      delta: δ > 0, the authors' 1e-4 in the squared units of the features. Scaled
        features have another LiDAR, unless the spread within is far above it.
      relative: δ is delta times the mean variance of a dimension, tr(Σ_b + Σ_w)/D,
        so that the scale of the features does not matter.

    Returns:
      LiDAR in [1, min(n − 1, D)]; 1 too where the means of all images are equal, or
      differ by rounding alone.

    Raises:
      UsageError: not [n, q, D], values that are not finite, delta ≤ 0, or so small
        beside Σ_w that float64 cannot tell it from zero.
    """
    name = "lidar"
    if getattr(views, "ndim", 3) != 3:
        raise UsageError(
            f"{name}: views must be [n, q, D], q views of each image, got {views.shape}"
        )
    if not hasattr(views, "ndim") or min(views.shape[:2]) < 2:
        shape = getattr(views, "shape", type(views).__name__)
        raise UsageError(
            f"{name}: views must be an array [n, q, D] with n >= 2 images and q >= 2 "
            f"views of each, got {shape}"
        )
    n, q, dim = views.shape
    arguments.features(name, views=views.reshape(n * q, dim))
    if not 0 < delta < np.inf:
        raise UsageError(f"{name}: delta must be > 0, got {delta}")

    z = np.asarray(views)
    means = z.mean(1, dtype=np.float64)
    centre = means.mean(0)
    between = float(np.square(means - centre).sum())
    if between <= n * dim * rounding(z) ** 2:
        return 1.0
    if dim > n * q:
        z = _in_their_span(z - centre)
        means = z.mean(1)
        centre = means.mean(0)
    within = _within(z, means) / (n * (q - 1))
    if relative:
        delta = delta * (between / (n - 1) + float(np.trace(within))) / dim
    factor = _cholesky(name, within, delta)
    # Rows whose scatter has the eigenvalues of the LDA matrix, up to n - 1.
    rows = linalg.solve_triangular(factor, (means - centre).T, lower=True)
    rows = rows if len(rows) <= n else rows.T
    values = np.maximum(np.linalg.eigvalsh(rows @ rows.T), 0)
    return float(np.exp(special.entr(values / values.sum()).sum()))


def _in_their_span(z: np.ndarray) -> np.ndarray:
    """Coordinates of rows in an orthonormal basis, [n, q, n q]: no product changes."""
    n, q, dim = z.shape
    return np.linalg.qr(z.reshape(n * q, dim).T, mode="r").T.reshape(n, q, -1)


def _within(z: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Sum of squares of the views around their images' means, [D, D]."""
    n, q, dim = z.shape
    scatter = np.zeros((dim, dim))
    images = max(_ROWS // q, 1)
    for start in range(0, n, images):
        part = slice(start, start + images)
        rows = (z[part] - means[part, None]).reshape(-1, dim)
        scatter += rows.T @ rows
    return scatter


def _cholesky(name: str, within: np.ndarray, delta: float) -> np.ndarray:
    """Of Σ_w + δ I, where the smallest pivot is more than rounding."""
    largest, dim = float(within.diagonal().max()), len(within)
    try:
        factor = linalg.cholesky(within + delta * np.eye(dim), lower=True)
        smallest = float(np.square(factor.diagonal()).min())
    except linalg.LinAlgError:
        smallest, factor = 0.0, within
    if smallest <= 10 * np.sqrt(dim) * np.finfo(np.float64).eps * largest:
        raise UsageError(
            f"{name}: delta must not vanish beside the spread within images, got "
            f"{delta:.2g} and up to {largest:.2g}; scale the features, or give "
            "relative=True"
        )
    return factor

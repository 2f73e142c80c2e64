"""CKA with Gaussian kernels, which look at near neighbours more than at far ones."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.median_distance import unit_median, unit_rows
from rl_jax.pairwise import moments

_LOST = 1e-6
"""Below this share of Σ K_ij², what is left of a HSIC is rounding."""

_moments = jax.jit(moments, static_argnames="block_size")


@checked
def rbf_cka(
    x: chex.Array,
    y: chex.Array,
    *,
    bandwidth: float = 0.5,
    debiased: bool = False,
    block_size: int | None = None,
) -> float:
    """CKA with Gaussian kernels (Kornblith et al. 2019, arXiv:1905.00414).

    K_ij = exp(−‖x_i − x_j‖²/2σ²) with σ a share of the median distance, for x and for
    y. HSIC(K, L) over the geometric mean of HSIC(K, K) and HSIC(L, L). Kernels stand in
    memory one tile at a time. Rotations, shifts and isotropic scaling change nothing;
    for wide kernels it becomes `linear_cka`.

    Args:
      x, y: [n, D] and [n, E] of the same n ≥ 4 examples.
      bandwidth: σ as a share of the median distance, in (0, 10]; the authors use 0.2,
        0.4 and 0.8. Wider kernels are linear.
      debiased: the unbiased HSIC of Song et al. 2012 (JMLR 13), see `linear_cka`.
      block_size: rows of a tile; None: see `pairwise.block_size_for`.

    Returns:
      In [0, 1]; debiased at most 1 and, around 0, of either sign.

    Raises:
      UsageError: for shapes that do not fit together, fewer than 4 rows, NaN, constant
        features, a bandwidth out of range, or a kernel that cannot tell rows apart.
    """
    n = arguments.features("rbf_cka", least=4, x=x, y=y)
    if not 0 < bandwidth <= 10:
        raise UsageError(f"rbf_cka: bandwidth must be in (0, 10], got {bandwidth}")
    rows, gammas = [], []
    # What a kernel is at the median distance; around it little of the sums cancels.
    shift = float(np.exp(-0.5 / bandwidth**2))
    for name, given in (("x", x), ("y", y)):
        unit, scale = unit_rows(given)
        median = unit_median(unit, block_size) if scale > 0 else 0.0
        if not median > 0:
            raise UsageError(
                f"rbf_cka: most rows of {name} are equal, so that the median distance "
                "is 0: it has collapsed"
            )
        rows.append(unit)
        gammas.append(jnp.float32(0.5 / (bandwidth * median) ** 2))
    found = _moments(
        *rows,
        gamma_x=gammas[0],
        gamma_y=gammas[1],
        shift_x=shift,
        shift_y=shift,
        block_size=block_size,
    )
    xx, xy, yy, x_rows, y_rows = (np.asarray(v, np.float64) for v in found)
    hsic = _unbiased if debiased else functools.partial(_biased, diagonal=1 - shift)
    own = [hsic(xx, x_rows, x_rows), hsic(yy, y_rows, y_rows)]
    for name, value, square in zip("xy", own, (xx, yy), strict=True):
        if not value > _LOST * square:
            raise UsageError(
                f"rbf_cka: the kernel of {name} is the same for all {n} rows at "
                f"bandwidth {bandwidth}; take one nearer to 1"
            )
    return float(hsic(xy, x_rows, y_rows) / np.sqrt(own[0] * own[1]))


def _biased(products, k, q, *, diagonal):
    """(n − 1)² times the HSIC of Gretton et al. 2005, of kernels with this diagonal.

    From sums without it: over K_ij L_ij, over the rows of K and over those of L.
    """
    n = len(k)
    k, q = k + diagonal, q + diagonal
    products = products + n * diagonal**2
    return products - 2 / n * (k @ q) + k.sum() * q.sum() / n**2


def _unbiased(products, k, q):
    """n(n − 3) times the HSIC of Song et al. 2012, eq. 5."""
    n = len(k)
    return products - 2 / (n - 2) * (k @ q) + k.sum() * q.sum() / ((n - 1) * (n - 2))

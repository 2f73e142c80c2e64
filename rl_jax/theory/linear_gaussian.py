"""Evidence, posterior and bound of the linear-Gaussian model, in NumPy float64."""

import chex
import numpy as np


def log_evidence(
    x: chex.Array, weight: chex.Array, bias: chex.Array, *, variance: float
) -> np.ndarray:
    """Log p(x) of z ~ N(0, I), x|z ~ N(Wz + b, vI) (Tipping & Bishop 1999).

    log N(x; b, WWᵀ + vI), doi:10.1111/1467-9868.00196.

    Args:
      x: [B, D].
      weight: W [D, k].
      bias: b [D].
      variance: v > 0.

    Returns:
      [B] float64, in nats.
    """
    x, weight, bias = _float64(x, weight, bias)
    root = np.linalg.cholesky(weight @ weight.T + variance * np.eye(len(weight)))
    white = np.linalg.solve(root, (x - bias[None]).T)
    log_determinant = 2 * np.log(np.diag(root)).sum()
    size = len(weight) * np.log(2 * np.pi) + log_determinant
    return -0.5 * (np.square(white).sum(0) + size)


def posterior(
    x: chex.Array, weight: chex.Array, bias: chex.Array, *, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of p(z|x) (Tipping & Bishop 1999): M⁻¹Wᵀ(x − b) and vM⁻¹.

    M = WᵀW + vI. The covariance is diagonal exactly where the columns of W are
    orthogonal: only then a diagonal q can be the posterior, and the bound tight.

    Args:
      x, weight, bias, variance: as in `log_evidence`.

    Returns:
      [B, k] and [k, k], float64.
    """
    x, weight, bias = _float64(x, weight, bias)
    m = weight.T @ weight + variance * np.eye(weight.shape[1])
    mean = np.linalg.solve(m, weight.T @ (x - bias[None]).T).T
    return mean, variance * np.linalg.inv(m)


def gap(
    mean: chex.Array,
    log_variance: chex.Array,
    posterior_mean: chex.Array,
    covariance: chex.Array,
) -> np.ndarray:
    """KL(q ‖ p(z|x)) of a diagonal q: what the bound lacks to log p(x).

    ½[tr(C⁻¹Σ) − k + log det C − log det Σ + (μ − m)ᵀC⁻¹(μ − m)], q = N(μ, Σ), the
    posterior N(m, C) (Kingma & Welling 2014, arXiv:1312.6114).

    Args:
      mean, log_variance: [B, k] μ and the logarithm of the diagonal of Σ.
      posterior_mean, covariance: [B, k] and [k, k], from `posterior`.

    Returns:
      [B] float64 ≥ 0, in nats.
    """
    mean, log_variance, m, c = _float64(mean, log_variance, posterior_mean, covariance)
    precision = np.linalg.inv(c)
    trace = np.exp(log_variance) @ np.diag(precision)
    square = np.einsum("bi,ij,bj->b", mean - m, precision, mean - m)
    log_ratio = np.linalg.slogdet(c)[1] - log_variance.sum(1)
    return 0.5 * (trace - len(c) + log_ratio + square)


def bound(
    x: chex.Array,
    weight: chex.Array,
    bias: chex.Array,
    mean: chex.Array,
    log_variance: chex.Array,
    *,
    variance: float,
) -> np.ndarray:
    """ELBO with its expectation taken exactly (Kingma & Welling 2014, arXiv:1312.6114).

    E_q log p(x|z) − KL(q ‖ N(0, I)), q = N(μ, Σ) diagonal, where
    E_q‖x − Wz − b‖² = ‖x − Wμ − b‖² + tr(WᵀWΣ). Together with `gap` it is log p(x).

    Args:
      x, weight, bias, variance: as in `log_evidence`.
      mean, log_variance: [B, k] μ and the logarithm of the diagonal of Σ.

    Returns:
      [B] float64, in nats.
    """
    x, weight, bias, mean, log_variance = _float64(x, weight, bias, mean, log_variance)
    sigma = np.exp(log_variance)
    miss = np.square(x - mean @ weight.T - bias[None]).sum(1)
    miss += sigma @ np.square(weight).sum(0)
    log_p = -0.5 * (miss / variance + len(weight) * np.log(2 * np.pi * variance))
    kl = 0.5 * (np.square(mean) + sigma - 1 - log_variance).sum(1)
    return log_p - kl


def _float64(*arrays: chex.Array) -> list[np.ndarray]:
    return [np.asarray(x, np.float64) for x in arrays]

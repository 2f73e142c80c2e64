"""Evidence bounds in NumPy float64, written from the formulas; and planted sources."""

import numpy as np


def gaussian_kl(mean, log_variance, prior_mean=0.0, prior_log_variance=0.0):
    """KL of each dimension: log(s/t) + (t^2 + (mu - m)^2) / (2 s^2) - 1/2."""
    q, p = np.exp(log_variance), np.exp(prior_log_variance)
    gap = (np.asarray(mean, np.float64) - prior_mean) ** 2
    return 0.5 * np.log(p / q) + (q + gap) / (2 * p) - 0.5


def gaussian_kl_vjp(mean, log_variance, prior_mean, prior_log_variance):
    """Gradients of the sum of all entries of gaussian_kl, by each of its arguments."""
    q, p = np.exp(log_variance), np.exp(prior_log_variance)
    gap = np.asarray(mean, np.float64) - prior_mean
    return gap / p, 0.5 * (q / p - 1), -gap / p, 0.5 * (1 - (q + gap**2) / p)


def gaussian_log_likelihood(x, mean, log_variance):
    """Log of the product of normal densities, entry by entry."""
    deviation = np.exp(0.5 * np.broadcast_to(log_variance, np.shape(x)))
    scaled = (np.asarray(x, np.float64) - mean) / deviation
    density = np.exp(-0.5 * scaled**2) / (np.sqrt(2 * np.pi) * deviation)
    return np.log(density).reshape(len(x), -1).sum(1)


def gaussian_log_likelihood_vjp(x, mean, log_variance):
    """Gradients of the sum over examples, by x, mean and log variance."""
    precision = np.exp(-np.broadcast_to(log_variance, np.shape(x)))
    gap = np.asarray(x, np.float64) - mean
    return -gap * precision, gap * precision, 0.5 * (gap**2 * precision - 1)


def bernoulli_log_likelihood(x, logits):
    """Sum of x log p + (1 - x) log(1 - p), p = 1 / (1 + exp(-l))."""
    x, p = np.asarray(x, np.float64), 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return (x * np.log(p) + (1 - x) * np.log1p(-p)).reshape(len(x), -1).sum(1)


def bernoulli_log_likelihood_vjp(x, logits):
    """Gradients of the sum over examples, by x and by logits."""
    logits = np.asarray(logits, np.float64)
    return logits, x - 1 / (1 + np.exp(-logits))


def free_bits(kl, *, threshold):
    """Sum over dimensions of max(threshold, mean over the batch)."""
    return sum(max(threshold, column.mean()) for column in np.asarray(kl).T)


def linear_gaussian_log_evidence(x, weight, bias, variance):
    """Log N(x; b, W W^T + v I), by the inverse and the determinant."""
    covariance = weight @ weight.T + variance * np.eye(len(weight))
    gap = x - bias
    square = np.einsum("bi,ij,bj->b", gap, np.linalg.inv(covariance), gap)
    size = len(weight) * np.log(2 * np.pi) + np.log(np.linalg.det(covariance))
    return -0.5 * (square + size)


class Sources:
    """Nonlinear ICA with segments: sources s, their segment u, the mixture x."""

    def __init__(self, s, u, x):
        self.s, self.u, self.x = s, u, x


def nonlinear_ica(seed, *, dim, observed, segments, per_segment, slope=0.2):
    """Sources whose variances differ between segments, mixed without noise.

    Independent normal sources of zero mean; the standard deviation of each in each
    segment is log-uniform in 0.15 .. 1.5, then each source is scaled to unit variance.
    x = B leaky(A s), with A, B of orthonormal columns (Khemakhem et al. 2020).
    """
    rng = np.random.default_rng(seed)
    deviation = np.exp(rng.uniform(np.log(0.15), np.log(1.5), (segments, dim)))
    u = np.repeat(np.arange(segments), per_segment)
    s = rng.normal(size=(len(u), dim)) * deviation[u]
    s /= s.std(0)
    first = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    second = np.linalg.qr(rng.normal(size=(observed, dim)))[0]
    hidden = s @ first.T
    hidden = np.where(hidden > 0, hidden, slope * hidden)
    x = hidden @ second.T
    return Sources(s, u.astype(np.int32), x.astype(np.float32))


def mean_correlation(z, s):
    """Largest mean |correlation| over all ways to pair sources with dimensions."""
    import itertools

    size = s.shape[1]
    table = np.abs(np.corrcoef(z.T, s.T)[: z.shape[1], z.shape[1] :])
    ways = itertools.permutations(range(z.shape[1]), size)
    return max(np.mean([table[way[j], j] for j in range(size)]) for way in ways)

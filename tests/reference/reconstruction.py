"""Autoencoders in NumPy float64, by other ways than the library's; planted atoms."""

import numpy as np
from scipy import integrate, stats


def squared_distance(x, y):
    """Mean over examples of the sum over entries of (x - y)^2."""
    return np.mean([np.sum((a - b) ** 2) for a, b in zip(x, y, strict=True)])


def l1(z):
    """Mean over examples of the sum of absolute values."""
    return np.mean([np.sum(np.abs(row)) for row in z])


def kl_sparsity(z, rho):
    """Sum over units of the divergence of two coins, rho and the unit's mean."""
    return sum(stats.entropy([rho, 1 - rho], [p, 1 - p]) for p in z.mean(0))


def principal_projector(x, k):
    """Of data, by the singular value decomposition of the centred matrix."""
    right = np.linalg.svd(x - x.mean(0), full_matrices=False)[2]
    return right[:k].T @ right[:k]


def mixture_density(x, weights, means, covariances, noise):
    """Density of each point, a component after another."""
    size = len(means[0])
    return sum(
        w * stats.multivariate_normal(m, c + noise**2 * np.eye(size)).pdf(x)
        for w, m, c in zip(weights, means, covariances, strict=True)
    )


def posterior_mean_1d(noisy, weights, means, variances, noise):
    """E[x | noisy] of a mixture on the line, by quadrature over x."""

    def density(gap, variance):
        return np.exp(-0.5 * gap**2 / variance) / np.sqrt(2 * np.pi * variance)

    def joint(x):
        parts = zip(weights, means, variances, strict=True)
        prior = sum(w * density(x - m, v) for w, m, v in parts)
        return prior * density(noisy - x, noise**2)

    edges = min(means) - 8, max(means) + 8
    options = {"epsabs": 1e-13, "epsrel": 1e-11, "limit": 200, "points": list(means)}
    above = integrate.quad(lambda x: x * joint(x), *edges, **options)[0]
    return above / integrate.quad(joint, *edges, **options)[0]


def sparse_coding_error(x, z, atoms, penalty):
    """Mean over examples of the squared distance plus penalty times the l1 norm."""
    miss = [np.sum((a - b @ atoms) ** 2) for a, b in zip(x, z, strict=True)]
    return np.mean(miss) + penalty * l1(z)


def coordinate_descent(x, atoms, penalty, *, sweeps=2000, positive=False):
    """Sparse codes by exact minimisation over one coordinate after another."""
    z = np.zeros((len(x), len(atoms)))
    for _ in range(sweeps):
        for j, atom in enumerate(atoms):
            rest = x - z @ atoms + np.outer(z[:, j], atom)
            pull, size = rest @ atom, atom @ atom
            low = np.maximum(pull - penalty / 2, 0)
            high = 0 if positive else np.minimum(pull + penalty / 2, 0)
            z[:, j] = (low + high) / size
    return z


def updated_atoms(atoms, a, b):
    """One round of block coordinate descent over atoms, columns as in the paper."""
    d, a, b = np.array(atoms, np.float64).T, np.float64(a), np.float64(b).T
    for j in range(d.shape[1]):
        u = (b[:, j] - d @ a[:, j]) / a[j, j] + d[:, j]
        d[:, j] = u / max(1, np.linalg.norm(u))
    return d.T


def planted(seed, *, count, dim, atoms, on, signed=False, noise=0.02):
    """Atoms of length 1, and sums of a few of them with weights in 0.5 .. 1.5.

    Returns:
      atoms [m, D] and x [count, D], float64.
    """
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(atoms, dim))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    z = np.zeros((count, atoms))
    for row in z:
        sign = rng.choice([-1, 1], on) if signed else 1
        row[rng.choice(atoms, on, replace=False)] = sign * rng.uniform(0.5, 1.5, on)
    return d, z @ d + noise * rng.normal(size=(count, dim))


def matched_cosine(planted, found, *, signed=False):
    """Of each planted atom, the largest cosine with one that was found."""
    length = np.linalg.norm(found, axis=1, keepdims=True)
    cosine = planted @ (found / np.maximum(length, 1e-12)).T
    return np.max(np.abs(cosine) if signed else cosine, axis=1)

"""Measures that need no label, in NumPy float64, from their formulas."""

import numpy as np


def alpha_req(features, first, last):
    """Agrawal et al. 2022, with the weights of Stringer et al. 2019: a linear system.

    Minimises Σ_j (log λ_j − a − b log j)²/j; α is −b.
    """
    x = np.asarray(features, np.float64)
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1]
    normal, right = np.zeros((2, 2)), np.zeros(2)
    for j in range(first, last + 1):
        row = np.array([1.0, np.log(j)])
        normal += np.outer(row, row) / j
        right += row * np.log(values[j - 1]) / j
    return -np.linalg.solve(normal, right)[1]


def lidar_matrices(views):
    """Thilak et al. 2023: Σ_b and Σ_w, without δ, one outer product at a time."""
    z = np.asarray(views, np.float64)
    n, q, dim = z.shape
    means = [np.mean(each, axis=0) for each in z]
    centre = np.mean(means, axis=0)
    between, within = np.zeros((2, dim, dim))
    for each, mean in zip(z, means, strict=True):
        between += np.outer(mean - centre, mean - centre) / (n - 1)
        for view in each:
            within += np.outer(view - mean, view - mean) / (n * (q - 1))
    return between, within


def lidar(views, delta):
    """Exp of the entropy of the eigenvalues of Σ_w^−½ Σ_b Σ_w^−½."""
    between, within = lidar_matrices(views)
    values, vectors = np.linalg.eigh(within + delta * np.eye(len(within)))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    values = np.linalg.eigvalsh(root @ between @ root)
    p = values[values > 1e-12 * values.max()]
    p = p / p.sum()
    return np.exp(-np.sum(p * np.log(p)))

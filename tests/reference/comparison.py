"""Measures of representations in NumPy float64, with every matrix in memory."""

import numpy as np

from reference.evaluate import unit_rows


def linear_kernel(x):
    x = np.asarray(x, np.float64)
    x = x - x.mean(0)
    return x @ x.T


def square_distances(x):
    x = np.asarray(x, np.float64)
    return np.stack([np.sum((row - x) ** 2, axis=1) for row in x])


def median_distance(x):
    """The lower median over i < j."""
    apart = np.sort(np.sqrt(square_distances(x)[np.triu_indices(len(x), 1)]))
    return apart[(len(apart) - 1) // 2]


def rbf_kernel(x, bandwidth):
    sigma = bandwidth * median_distance(x)
    return np.exp(-square_distances(x) / (2 * sigma**2))


def hsic(k, q, *, debiased):
    """Gretton et al. 2005, tr(KHLH)/(n−1)²; Song et al. 2012, equation 5."""
    n, ones = len(k), np.ones(len(k))
    if not debiased:
        h = np.eye(n) - 1 / n
        return np.trace(k @ h @ q @ h) / (n - 1) ** 2
    k, q = k - np.diag(np.diag(k)), q - np.diag(np.diag(q))
    total = np.trace(k @ q) - 2 / (n - 2) * (ones @ k @ q @ ones)
    total += (ones @ k @ ones) * (ones @ q @ ones) / ((n - 1) * (n - 2))
    return total / (n * (n - 3))


def cka(k, q, *, debiased=False):
    own = hsic(k, k, debiased=debiased) * hsic(q, q, debiased=debiased)
    return hsic(k, q, debiased=debiased) / np.sqrt(own)


def minibatch_cka(x, y, size):
    """Nguyen et al. 2021, equation 2."""
    starts = range(0, len(x) - size + 1, size)
    kernels = [[linear_kernel(v[i : i + size]) for v in (x, y)] for i in starts]
    xy = np.mean([hsic(k, q, debiased=True) for k, q in kernels])
    xx = np.mean([hsic(k, k, debiased=True) for k, _ in kernels])
    yy = np.mean([hsic(q, q, debiased=True) for _, q in kernels])
    return xy / np.sqrt(xx * yy)


def occurrence(features, k, metric):
    """How often each row is among the k nearest of another one."""
    x = np.asarray(features, np.float64)
    if metric == "cosine":
        score = unit_rows(x) @ unit_rows(x).T
    elif metric == "dot":
        score = x @ x.T
    else:
        score = -square_distances(x)
    count = np.zeros(len(x), int)
    for i, row in enumerate(score):
        others = [j for j in range(len(x)) if j != i]
        for j in sorted(others, key=lambda j: (-row[j], j))[:k]:
            count[j] += 1
    return count


def similarity_histogram(a, b, bins):
    """Counts of positives and of negatives, and the two means."""
    cosine = unit_rows(a) @ unit_rows(b).T
    on = np.eye(len(cosine), dtype=bool)
    parts = cosine[on], cosine[~on]
    edges = np.linspace(-1, 1, bins + 1)
    counts = [np.histogram(np.clip(c, -1, 1), edges)[0] for c in parts]
    return *counts, *(c.mean() for c in parts)


def softmax_sharpness(a, b, temperature):
    """Mean of −Σ p log p / log K and of max p, row by row."""
    scores = unit_rows(a) @ unit_rows(a if b is None else b).T / temperature
    found = []
    for i, row in enumerate(scores):
        row = np.delete(row, i) if b is None else row
        p = np.exp(row - row.max())
        p /= p.sum()
        entropy = -np.sum(p[p > 0] * np.log(p[p > 0]))
        found.append((entropy / np.log(len(p)), p.max()))
    return np.mean(found, axis=0)


def effective_rank(z):
    """Roy & Vetterli 2007, of the covariance matrix."""
    values = np.linalg.eigvalsh(np.cov(np.asarray(z, np.float64).T, bias=True))
    p = values[values > 0] / values.sum()
    return np.exp(-np.sum(p * np.log(p)))


def class_geometry(x, labels):
    """Margin, separation and spread of each class, and tr(pinv(S_W) S_B)."""
    x = np.asarray(x, np.float64)
    classes = np.unique(labels)
    means = {c: x[labels == c].mean(0) for c in classes}
    margin, separation, spread = [], [], []
    within, between = np.zeros((2, x.shape[1], x.shape[1]))
    for c in classes:
        members, own = x[labels == c], means[c]
        rivals = [means[d] for d in classes if d != c]
        signed = []
        for row in members:
            # Along the unit normal of the plane half way to each rival.
            each = [
                (row - (own + m) / 2) @ (own - m) / np.linalg.norm(own - m)
                for m in rivals
            ]
            signed.append(min(each))
        margin.append(np.mean(signed))
        separation.append(min(np.linalg.norm(own - m) for m in rivals))
        spread.append(np.sqrt(np.mean(np.sum((members - own) ** 2, axis=1))))
        within += (members - own).T @ (members - own) / len(x)
        shift = own - x.mean(0)
        between += len(members) / len(x) * np.outer(shift, shift)
    fisher = np.trace(np.linalg.pinv(within, rcond=1e-10) @ between)
    return np.array(margin), np.array(separation), np.array(spread), fisher

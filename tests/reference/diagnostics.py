"""Diagnostics of a training step in NumPy float64, pair by pair."""

import numpy as np


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def participation_ratio(x):
    """From the eigenvalues of the covariance."""
    values = np.linalg.eigvalsh(np.cov(np.asarray(x, np.float64), rowvar=False))
    return values.sum() ** 2 / np.sum(values**2)


def mean_cosines(a, b):
    """Of pairs in the same row, and of pairs in different rows."""
    a, b = unit(a), unit(b)
    same = [a[i] @ b[i] for i in range(len(a))]
    other = [a[i] @ b[j] for i in range(len(a)) for j in range(len(a)) if i != j]
    return np.mean(same), np.mean(other)


def sharpness(rows):
    """Of lists of logits, one list for each query: entropy over log K, and peak."""
    entropies, peaks = [], []
    for logits in rows:
        p = np.exp(np.asarray(logits) - np.max(logits))
        p /= p.sum()
        entropies.append(-np.sum(p * np.log(p)) / np.log(len(p)))
        peaks.append(p.max())
    return np.mean(entropies), np.mean(peaks)

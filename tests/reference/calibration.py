"""Calibration and conformal sets in NumPy float64, example by example."""

import math

import numpy as np


def softmax(z):
    e = np.exp(np.asarray(z, np.float64) - np.max(z, axis=1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def bins_of(confidence, edges):
    """For each bin (low, high] its examples; the first also holds its low edge."""
    last = len(edges) - 2
    return [
        [i for i, c in enumerate(confidence)
         if (edges[b] < c or b == 0) and (c <= edges[b + 1] or b == last)]
        for b in range(last + 1)
    ]  # fmt: skip


def calibration_errors(p, labels, *, bins, equal_mass):
    """Guo et al. 2017, equations 3 and 5: (ECE, MCE)."""
    p = np.asarray(p, np.float64)
    confidence, right = p.max(1), p.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    if equal_mass:
        edges = np.quantile(confidence, edges)
    ece, mce = 0.0, 0.0
    for members in bins_of(confidence, edges):
        if members:
            gap = abs(np.mean(right[members]) - np.mean(confidence[members]))
            ece, mce = ece + len(members) / len(p) * gap, max(mce, gap)
    return ece, mce


def brier_score(p, labels):
    return np.mean(np.sum((p - np.eye(p.shape[1])[labels]) ** 2, axis=1))


def cross_entropy(z, labels):
    return -np.mean(np.log(softmax(z)[np.arange(len(z)), labels]))


def temperature(z, labels, *, low=0.05, high=20.0):
    """Golden section on log T of the cross-entropy."""
    low, high, ratio = np.log(low), np.log(high), (np.sqrt(5) - 1) / 2
    for _ in range(100):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        values = [cross_entropy(z / np.exp(t), labels) for t in (left, right)]
        low, high = (low, right) if values[0] < values[1] else (left, high)
    return np.exp((low + high) / 2)


def lac_score(p, y, v=None):
    return 1 - p[y]


def aps_score(p, y, v):
    """Romano et al. 2020, equation 7, for one example: mass before y, and v p_y."""
    before = sum(q for c, q in enumerate(p) if q > p[y] or (q == p[y] and c < y))
    return before + v * p[y]


def quantile(scores, alpha, *, plus=1):
    """The ceil((n + 1)(1 - alpha))-th smallest; plus=0 is the mistake."""
    rank = math.ceil((len(scores) + plus) * (1 - alpha) - 1e-9)
    return sorted(scores)[rank - 1] if rank <= len(scores) else math.inf


def sets(score, p, labels, test_p, alpha, v, test_v, *, per_class=False):
    own = [score(*each) for each in zip(p, labels, v, strict=True)]
    classes = range(p.shape[1])
    groups = [[s for s, y in zip(own, labels, strict=True) if y == c or not per_class]
              for c in classes]  # fmt: skip
    limits = [quantile(group, alpha) for group in groups]
    return np.array([[score(q, c, u) <= limits[c] for c in classes]
                     for q, u in zip(test_p, test_v, strict=True)])  # fmt: skip

"""Sinkhorn-Knopp and the swapped prediction of SwAV and DINO in NumPy float64."""

import numpy as np

from reference.losses import normalize


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scores(z, prototypes):
    return normalize(z) @ normalize(prototypes).T


def sinkhorn(scores, *, epsilon, iterations):
    """Algorithm 1 of the SwAV paper: Q [K, B] with row sums 1/K and column sums 1/B."""
    q = np.exp(np.asarray(scores, np.float64) / epsilon).T
    q /= q.sum()
    prototypes, batch = q.shape
    for _ in range(iterations):
        for k in range(prototypes):
            q[k] /= prototypes * q[k].sum()
        for i in range(batch):
            q[:, i] /= batch * q[:, i].sum()
    return (q * batch).T


def swapped(targets, logits):
    """The mean over pairs of different views, one at a time; both are [B, V, K]."""
    terms = [
        -np.mean(np.sum(targets[:, t] * np.log(softmax(logits[:, v])), -1))
        for t in range(targets.shape[1])
        for v in range(logits.shape[1])
        if v != t
    ]
    return np.mean(terms)


def patches(targets, logits, weight):
    """The authors' order: a mean over the patches of an image, one image at a time."""
    images = []
    for q, s, w in zip(targets, logits, weight, strict=True):
        rows = [-np.sum(q[j] * np.log(softmax(s[j]))) for j in np.flatnonzero(w)]
        images.append(np.sum(rows) / max(len(rows), 1))
    return np.mean(images)

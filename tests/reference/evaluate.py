"""Evaluation in NumPy float64, written from the papers."""

import numpy as np


def unit_rows(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def top_k(query, bank, *, k, valid=None, exclude=None):
    """Brute force: sort every row by (score down, index up)."""
    scores = np.asarray(query, np.float64) @ np.asarray(bank, np.float64).T
    valid = len(bank) if valid is None else valid
    values = np.full((len(query), k), -np.inf)
    indices = np.full((len(query), k), -1)
    for i, row in enumerate(scores):
        banned = -1 if exclude is None else exclude[i]
        ranked = [(-s, j) for j, s in enumerate(row[:valid]) if j != banned]
        for place, (s, j) in enumerate(sorted(ranked)[:k]):
            values[i, place], indices[i, place] = -s, j
    return values, indices


def knn(features, labels, queries, *, k, temperature):
    """The class with the largest sum of exp(cosine / temperature) in the k nearest."""
    scores, index = top_k(unit_rows(queries), unit_rows(features), k=k)
    votes = np.zeros((len(queries), labels.max() + 1))
    for i, (row, near) in enumerate(zip(scores, index, strict=True)):
        for score, j in zip(row, near, strict=True):
            votes[i, labels[j]] += np.exp(score / temperature)
    return votes.argmax(1)


def probabilities(x, w, b):
    """Softmax of x w + b."""
    logits = np.asarray(x, np.float64) @ np.asarray(w) + np.asarray(b)
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def logistic_gradient(w, b, x, labels, *, l2, weights=None):
    """Gradients by w and b of the weighted mean cross-entropy + l2/2 |w|^2."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    p = probabilities(x, w, b)
    p[np.arange(len(x)), labels] -= 1.0
    p *= (weights / weights.sum())[:, None]
    return x.T @ p + l2 * w, p.sum(0)


def label_draws(labels, per_class, draws, seed):
    """For each draw and class: its examples of smallest Philox bits, smallest first."""
    rows = []
    for draw in range(draws):
        key = np.array([seed, draw], np.uint64)
        bits = np.random.Philox(key=key).random_raw(len(labels)).tolist()
        row = []
        for c in sorted(set(labels.tolist())):
            members = np.flatnonzero(labels == c).tolist()
            row += sorted(members, key=bits.__getitem__)[:per_class]
        rows.append(row)
    return np.array(rows)


def fraction_draws(labels, fraction, draws, seed):
    """As many of each class as round to the fraction, at least one, smallest first."""
    rows = []
    for draw in range(draws):
        key = np.array([seed, draw], np.uint64)
        bits = np.random.Philox(key=key).random_raw(len(labels)).tolist()
        row = []
        for c in sorted(set(labels.tolist())):
            members = np.flatnonzero(labels == c).tolist()
            share = max(1, int(fraction * len(members) + 0.5))
            row += sorted(members, key=bits.__getitem__)[:share]
        rows.append(row)
    return np.array(rows)


def rank_me(z):
    """Garrido et al. 2023, equations 1 and 2, without their epsilon."""
    s = np.linalg.svd(np.asarray(z, np.float64), compute_uv=False)
    p = s[s > 0] / s.sum()
    return np.exp(-np.sum(p * np.log(p)))


def normalized_std(z):
    return np.sqrt(z.shape[1]) * unit_rows(z).std(0).mean()


def tsne_affinities(x, perplexity):
    """Symmetric P of t-SNE, each bandwidth by bisection on the precision."""
    x = np.asarray(x, np.float64)
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    distance -= distance.min(1, keepdims=True)
    low, high = np.full((2, len(x), 1), [[[0.0]], [[1e4]]])
    for _ in range(80):
        beta = (low + high) / 2
        p = np.exp(-beta * distance)
        p /= p.sum(1, keepdims=True)
        entropy = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), 1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    return (p + p.T) / (2 * len(x))


def tsne_divergence(p, y):
    """KL(P || Q) with Q from a Student-t in the plane."""
    y = np.asarray(y, np.float64)
    q = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(-1))
    np.fill_diagonal(q, 0.0)
    q /= q.sum()
    on = p > 0
    return np.sum(p[on] * np.log(p[on] / q[on]))


def zero_shot(images, prompts):
    """The class whose mean unit text, made unit again, is nearest to the image."""
    classes = unit_rows(np.stack([unit_rows(texts).mean(0) for texts in prompts]))
    return (unit_rows(images) @ classes.T).argmax(1)


def recall(images, texts, captions, k):
    """Shares of images and of texts with a partner among their k nearest."""
    cosines = unit_rows(images) @ unit_rows(texts).T
    owners = [{i for i, row in enumerate(captions) if m in row}
              for m in range(len(texts))]  # fmt: skip
    to_text = [bool({*np.argsort(-row)[:k].tolist()} & {*own})
               for row, own in zip(cosines, np.asarray(captions).tolist(), strict=True)
               ]  # fmt: skip
    to_image = [bool({*np.argsort(-row)[:k].tolist()} & own)
                for row, own in zip(cosines.T, owners, strict=True)]  # fmt: skip
    return np.mean(to_text), np.mean(to_image)

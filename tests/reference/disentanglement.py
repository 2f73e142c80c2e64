"""Scores of disentanglement in NumPy float64, written from the papers."""

import numpy as np


def information(a, b):
    """Sum of p(a, b) log p(a, b) / p(a) p(b) over the pairs that occur."""
    total = 0.0
    for x in set(a.tolist()):
        for y in set(b.tolist()):
            p = np.mean((a == x) & (b == y))
            if p > 0:
                total += p * np.log(p / (np.mean(a == x) * np.mean(b == y)))
    return total


def mig(z, s, bins):
    """Chen et al. 2018, equation 6; each code in bins as NumPy's histogram has them."""
    gaps = []
    for factor in s.T:
        told = []
        for code in z.T:
            edges = np.histogram(code, bins)[1]
            told.append(information(np.digitize(code, edges[:-1]), factor))
        first, second = sorted(told)[::-1][:2]
        gaps.append((first - second) / information(factor, factor))
    return np.mean(gaps)


def concentration(importance):
    """Eastwood & Williams 2018: 1 - entropy of each row, weighted by the row's sum."""
    score, (rows, columns) = 0.0, importance.shape
    for i in range(rows):
        share = importance[i].sum() / importance.sum()
        entropy = 0.0
        for j in range(columns):
            p = importance[i, j] / importance[i].sum() if importance[i, j] else 0.0
            entropy -= p * np.log(p) / np.log(columns) if p else 0.0
        score += share * (1 - entropy)
    return score


def sap(z, s, categorical=()):
    """Kumar et al. 2018: R^2 of least squares, or balanced accuracy of thresholds."""
    gaps = []
    for j, factor in enumerate(s.T):
        scores = []
        for code in z.T:
            if j in categorical:
                values = np.unique(factor)
                means = np.array([code[factor == v].mean() for v in values])
                found = values[np.abs(code[:, None] - means).argmin(1)]
                scores.append(np.mean([np.mean(found[factor == v] == v)
                                       for v in values]))  # fmt: skip
            else:
                line = np.stack([code, np.ones_like(code)], 1)
                fit = line @ np.linalg.lstsq(line, factor, rcond=None)[0]
                scores.append(1 - np.sum((factor - fit) ** 2)
                              / np.sum((factor - factor.mean()) ** 2))  # fmt: skip
        first, second = sorted(scores)[::-1][:2]
        gaps.append(first - second)
    return np.mean(gaps)


def factor_vae(z, s, *, batch_size, votes, seed):
    """Kim & Mnih 2018, section 4: one vote after another."""
    rng, cast = np.random.default_rng(seed), []
    for _ in range(2 * votes):
        j = rng.integers(s.shape[1])
        members = np.flatnonzero(s[:, j] == s[rng.integers(len(s)), j])
        batch = z[rng.choice(members, batch_size)] / z.std(0)
        cast.append((batch.var(0).argmin(), j))
    table = np.zeros((z.shape[1], s.shape[1]))
    for i, j in cast[:votes]:
        table[i, j] += 1
    return np.mean([table[i].argmax() == j for i, j in cast[votes:]])

"""Saunshi et al. 2019 in NumPy float64: every triple of a finite population."""

import numpy as np


def loss(v, base):
    return np.log1p(np.exp(-v)) / np.log(base)


def losses(f, labels, priors, *, base=2):
    """(L_un, L_sup of the mean classifier, collision probability)."""
    f, classes = np.asarray(f, np.float64), range(len(priors))
    members = [f[labels == c] for c in classes]
    means = [m.mean(0) for m in members]
    un = sup = collision = 0.0
    for c in classes:
        for other in classes:
            chance = priors[c] * priors[other]
            terms = [loss(x @ (p - q), base)
                     for x in members[c] for p in members[c] for q in members[other]
                     ]  # fmt: skip
            un += chance * np.mean(terms)
            if c == other:
                collision += chance
            else:
                gaps = [loss(x @ (means[c] - means[other]), base) for x in members[c]]
                sup += chance * np.mean(gaps)
    return un, sup / (1 - collision), collision

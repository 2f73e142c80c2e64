"""Barlow Twins and VICReg in NumPy float64, written from the papers and their code."""

import numpy as np


def barlow_twins(a, b, *, off_diagonal=0.0051, scale=1.0, unbiased=False):
    """Zbontar et al. 2021, arXiv:2103.03230, entry by entry.

    unbiased: as the pseudo-code, standard deviations of n - 1 and eps outside the root.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    rows, dim = a.shape

    def column(x, j):
        centred = x[:, j] - x[:, j].mean()
        if unbiased:
            return centred / (x[:, j].std(ddof=1) + 1e-5)
        return centred / np.sqrt(x[:, j].var() + 1e-5)

    total = 0.0
    for i in range(dim):
        for j in range(dim):
            c = (column(a, i) * column(b, j)).sum() / rows
            total += (1 - c) ** 2 if i == j else off_diagonal * c**2
    return scale * total


def vicreg(a, b, *, invariance=25.0, variance=25.0, covariance=1.0, halve=True):
    """Bardes et al. 2022, arXiv:2105.04906; halve=False: the paper's equation for v."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    value = invariance * np.mean((a - b) ** 2)
    for x in (a, b):
        std = np.sqrt(x.var(0, ddof=1) + 1e-4)
        hinge = np.mean(np.maximum(0.0, 1.0 - std))
        value += variance * hinge * (0.5 if halve else 1.0)
        cov = np.atleast_2d(np.cov(x, rowvar=False))
        np.fill_diagonal(cov, 0.0)
        value += covariance * np.sum(cov**2) / x.shape[1]
    return value

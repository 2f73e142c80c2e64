"""SIGReg in NumPy float64: the paper's listing, and what its integral is in full."""

import numpy as np


def epps_pulley(s, *, knots, t_max):
    """Algorithm 1 of Balestriero & LeCun 2025, arXiv:2511.08544, of one direction.

    knots: from 0 to t_max; the listing has them on both sides of 0.
    """
    t = np.linspace(-t_max, t_max, 2 * knots - 1)
    gaussian = np.exp(-0.5 * t**2)
    empirical = np.exp(1j * np.multiply.outer(s, t)).mean(0)
    return np.trapezoid(np.abs(empirical - gaussian) ** 2 * gaussian, t) * len(s)


def closed_form(s):
    """The same over the whole axis: sums of Gaussian kernels, the statistic of BHEP.

    ∫ cos(at) exp(−ct²) dt = √(π/c) exp(−a²/4c), for the three terms of the square.
    """
    s = np.asarray(s, np.float64)
    pairs = np.exp(-((s[:, None] - s[None]) ** 2) / 2).sum() / len(s)
    single = np.exp(-(s**2) / 4).sum()
    return np.sqrt(2 * np.pi) * (pairs - np.sqrt(2) * single + len(s) / np.sqrt(3))


def sigreg(z, directions, **options):
    """The mean over unit directions [M, D] and over the views of z [B, V, D]."""
    z = np.asarray(z, np.float64)
    return np.mean(
        [
            epps_pulley(z[:, v] @ a, **options)
            for v in range(z.shape[1])
            for a in np.asarray(directions, np.float64)
        ]
    )

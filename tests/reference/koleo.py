"""The Kozachenko-Leonenko regulariser in NumPy float64, pair by pair."""

import numpy as np

from reference.losses import normalize


def koleo(z, *, epsilon=1e-8):
    """−mean log(distance to the nearest other row + ε), of unit rows."""
    z = normalize(z)
    nearest = [
        min(np.linalg.norm(z[i] - z[j]) for j in range(len(z)) if j != i)
        for i in range(len(z))
    ]
    return -np.mean(np.log(np.asarray(nearest) + epsilon))

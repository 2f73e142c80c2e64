"""Losses and gradients in NumPy float64, from the formulas: what is right."""

import numpy as np


def nt_xent(a, b, *, temperature: float):
    """NT-Xent of two views: `(value, gradient by a, gradient by b)`, float64.

    Over the 2B unit rows z with s = zzᵀ/τ: mean_i [log Σ_{j≠i} exp s_ij − s_{i,p(i)}].
    """
    a, length_a, b, length_b = *_unit(a), *_unit(b)
    z, partner = np.concatenate([a, b]), np.concatenate([b, a])
    s = z @ z.T / temperature
    np.fill_diagonal(s, -np.inf)
    lse, p = _softmax(s)
    value = np.mean(lse - (z * partner).sum(1) / temperature)
    dz = ((p + p.T) @ z - 2 * partner) / (temperature * len(z))
    da, db = np.split(dz, 2)
    return value, _through_unit(da, a, length_a), _through_unit(db, b, length_b)


def clip(a, b, *, temperature: float):
    """CLIP's symmetric loss of two modalities: the mean of both directions, float64."""
    a, length_a, b, length_b = *_unit(a), *_unit(b)
    s = a @ b.T / temperature
    rows, p = _softmax(s)
    columns, q = _softmax(s.T)
    value = np.mean(rows + columns) / 2 - np.mean((a * b).sum(1)) / temperature
    w = (p + q.T) / 2 - np.eye(len(s))
    scale = 1 / (temperature * len(s))
    da, db = scale * w @ b, scale * w.T @ a
    return value, _through_unit(da, a, length_a), _through_unit(db, b, length_b)


def sigmoid(a, b, *, temperature: float, bias: float):
    """SigLIP's loss: −1/B Σ_ij log σ(m_ij l_ij), l = abᵀ/τ + bias, m 1 for pairs or −1.

    As the other two: `(value, gradient by a, gradient by b)`, float64.
    """
    a, length_a, b, length_b = *_unit(a), *_unit(b)
    sign = 2 * np.eye(len(a)) - 1
    away = -sign * (a @ b.T / temperature + bias)
    value = np.logaddexp(0, away).sum() / len(a)
    w = -sign / (1 + np.exp(-away)) / (temperature * len(a))
    return value, _through_unit(w @ b, a, length_a), _through_unit(w.T @ a, b, length_b)


def relative_error(found, expected) -> float:
    """Largest difference over the largest entry of what is expected."""
    found = np.asarray(found, np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _unit(x):
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / length, length


def _through_unit(dz, z, length):
    return (dz - (dz * z).sum(1, keepdims=True) * z) / length


def _softmax(s):
    peak = s.max(1, keepdims=True)
    e = np.exp(s - peak)
    total = e.sum(1, keepdims=True)
    return (np.log(total) + peak)[:, 0], e / total

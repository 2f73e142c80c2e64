"""What methods of masked patches compute, in NumPy float64, from the papers."""

import math

import numpy as np


def smooth_l1(predicted, target, weight=None, *, beta=1.0):
    """Weighted mean of d²/2β where |d| < β, else |d| − β/2; its gradient by both."""
    predicted, target = (np.asarray(x, np.float64) for x in (predicted, target))
    weight = np.ones(predicted.shape[:-1]) if weight is None else np.asarray(weight)
    share = (weight / (weight.sum() * predicted.shape[-1]))[..., None]
    total, slope = 0.0, np.zeros(predicted.shape)
    for at in np.ndindex(*predicted.shape):
        d = predicted[at] - target[at]
        one = share[(*at[:-1], 0)]
        near = abs(d) < beta
        total += one * (d * d / (2 * beta) if near else abs(d) - beta / 2)
        slope[at] = one * (d / beta if near else math.copysign(1.0, d))
    return total, (slope, -slope)


def absolute_error(predicted, target):
    """Mean of |predicted − target|, and its gradient by both."""
    d = np.asarray(predicted, np.float64) - np.asarray(target, np.float64)
    slope = np.sign(d) / d.size
    return np.abs(d).mean(), (slope, -slope)


def standardised(x):
    """Each row of the last axis less its mean, over √(variance + 1e-5)."""
    x = np.asarray(x, np.float64)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


def block_size(rows, columns, scale, aspect):
    """The authors' `_sample_block_size` of a square grid, after its two draws."""
    count = int(rows * columns * scale)
    h = int(round(math.sqrt(count * aspect)))
    w = int(round(math.sqrt(count / aspect)))
    return min(h, rows), min(w, columns)


def coverage(rows, columns, height, width):
    """Of each patch, the probability to be in a block of which every place is alike."""
    found = np.zeros((rows, columns))
    places = 0
    for top in range(rows - height + 1):
        for left in range(columns - width + 1):
            found[top : top + height, left : left + width] += 1
            places += 1
    return found / places

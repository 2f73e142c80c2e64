"""NC1 to NC4 in NumPy float64, with the D × D matrices of the paper."""

import numpy as np


def neural_collapse(features, labels, kernel, bias):
    """Papyan, Han & Donoho 2020, section 2, each class counting the same."""
    h = np.asarray(features, np.float64)
    w, b = np.asarray(kernel, np.float64).T, np.asarray(bias, np.float64)
    classes, dim = w.shape
    means = np.array([h[labels == c].mean(0) for c in range(classes)])
    centre = means.mean(0)
    within, between = np.zeros((2, dim, dim))
    for c in range(classes):
        for row in h[labels == c]:
            d = row - means[c]
            within += np.outer(d, d) / (classes * np.sum(labels == c))
        d = means[c] - centre
        between += np.outer(d, d) / classes
    lengths = [np.linalg.norm(m - centre) for m in means]
    cosines = [
        (means[i] - centre) @ (means[j] - centre) / (lengths[i] * lengths[j])
        for i in range(classes)
        for j in range(classes)
        if i != j
    ]
    m = (means - centre).T
    wrong = [
        np.argmax(w @ row + b) != np.argmin([np.linalg.norm(row - x) for x in means])
        for row in h
    ]
    return {
        "within": np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / classes,
        "equinorm": np.std(lengths) / np.mean(lengths),
        "equiangle": np.std(cosines),
        "angle": np.max(np.abs(np.array(cosines) + 1 / (classes - 1))),
        "duality": np.linalg.norm(w.T / np.linalg.norm(w) - m / np.linalg.norm(m)),
        "nearest": np.mean(wrong),
    }

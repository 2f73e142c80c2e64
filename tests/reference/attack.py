"""Projected gradient descent in NumPy float64, one example at a time."""

import numpy as np


def network(rng, pixels, hidden, classes):
    """Weights of a network with one layer of tanh."""
    return (
        rng.normal(size=(pixels, hidden)) / np.sqrt(pixels) * 3,
        rng.normal(size=hidden) * 0.3,
        rng.normal(size=(hidden, classes)),
    )


def loss_and_gradient(x, y, weights):
    """Of one image: cross-entropy, whether it is wrong, and the gradient."""
    w, b, v = weights
    hidden = np.tanh(x.ravel() @ w + b)
    logits = hidden @ v
    p = np.exp(logits - logits.max())
    p /= p.sum()
    by_logits = p - np.eye(len(p))[y]
    gradient = w @ ((v @ by_logits) * (1 - hidden**2))
    return -np.log(p[y]), logits.argmax() != y, gradient.reshape(x.shape)


def projected(x, clean, norm, radius):
    if norm == "linf":
        return np.clip(np.clip(x, clean - radius, clean + radius), 0, 1)
    moved = x - clean
    length = np.linalg.norm(moved)
    if length > radius:
        moved = moved * radius / length
    return np.clip(clean + moved, 0, 1)


def pgd(clean, y, start, weights, *, norm, radius, steps, step_size):
    """Worst of the clean image and the iterates: (image, loss, fooled)."""
    best = None
    x = start
    for candidate in range(-1, steps + 1):
        here = clean if candidate < 0 else x
        loss, wrong, gradient = loss_and_gradient(here, y, weights)
        if best is None or (wrong, loss) > (best[2], best[1]):
            best = (here, loss, wrong)
        if candidate >= 0:
            if norm == "linf":
                way = np.sign(gradient)
            else:
                way = gradient / np.linalg.norm(gradient)
            x = projected(x + step_size * way, clean, norm, radius)
    return best

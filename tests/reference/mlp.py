"""One hidden layer of ReLUs trained by AdamW with a cosine schedule, float64."""

import numpy as np


def forward(p, x):
    hidden = np.maximum(x @ p["kernel"] + p["bias"], 0)
    logits = hidden @ p["out_kernel"] + p["out_bias"]
    z = np.exp(logits - logits.max(1, keepdims=True))
    return hidden, z / z.sum(1, keepdims=True)


def cross_entropy(p, x, labels):
    return -np.log(forward(p, x)[1][np.arange(len(x)), labels])


def gradient(p, x, labels, weights):
    """Of the weighted mean cross-entropy."""
    hidden, error = forward(p, x)
    error[np.arange(len(x)), labels] -= 1
    error *= (weights / max(weights.sum(), 1))[:, None]
    back = (error @ p["out_kernel"].T) * (hidden > 0)
    return {
        "kernel": x.T @ back,
        "bias": back.sum(0),
        "out_kernel": hidden.T @ error,
        "out_bias": error.sum(0),
    }


def adamw(p, x, labels, weights, batches, *, rate, decay):
    """Loshchilov & Hutter 2019, algorithm 2; biases are not decayed."""
    p = {k: np.asarray(v, np.float64) for k, v in p.items()}
    m, v = ({k: np.zeros_like(a) for k, a in p.items()} for _ in range(2))
    for t, rows in enumerate(batches):
        now = rate * (1 + np.cos(np.pi * t / len(batches))) / 2
        for k, g in gradient(p, x[rows], labels[rows], weights[rows]).items():
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g * g
            step = m[k] / (1 - 0.9 ** (t + 1))
            step /= np.sqrt(v[k] / (1 - 0.999 ** (t + 1))) + 1e-8
            shrink = decay if k.endswith("kernel") else 0.0
            p[k] = p[k] - now * (step + shrink * p[k])
    return p

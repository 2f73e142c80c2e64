"""How near features and classifier are to neural collapse: NC1 to NC4."""

from typing import NamedTuple

import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.theory import simplex_gram

_RANK = 1e-10
"""Singular values of the class means below this share of the largest are zeros: C
centred means have rank C − 1 at most."""


class NeuralCollapse(NamedTuple):
    """What Papyan, Han & Donoho (2020) measure; all of it is 0 at collapse.

    Attributes:
      within: NC1, tr(Σ_W Σ_B†)/C, the spread within the classes in units of that
        between them.
      equinorm: NC2, standard deviation over mean of the lengths ‖μ_c − μ‖.
      equiangle: NC2, standard deviation of the cosines of the centred class means.
      angle: NC2, the largest |cosine + 1/(C−1)|: distance to the simplex ETF.
      duality: NC3, ‖W/‖W‖ − M/‖M‖‖ in Frobenius norms, M the centred class means.
      nearest: NC4, share of the examples where the classifier and the nearest class
        mean disagree.
    """

    within: float
    equinorm: float
    equiangle: float
    angle: float
    duality: float
    nearest: float


@checked
def neural_collapse(
    features: np.ndarray, labels: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> NeuralCollapse:
    """NC1 to NC4 (Papyan, Han & Donoho 2020, arXiv:2008.08186), on training examples.

    Class means μ_c, their mean μ, Σ_W the covariance within the classes, Σ_B that of
    the class means. Every class counts the same; the paper has classes of equal size.
    Computed in float64, one class at a time.

    Args:
      features: [n, D], what the classifier sees.
      labels: int [n] in [0, C); every class occurs.
      kernel: W [D, C] of the classifier Wᵀh + b.
      bias: b [C].

    Returns:
      A `NeuralCollapse`.

    Raises:
      UsageError: for shapes that do not fit together, labels out of range or missing
        classes, values that are not finite, or class means that coincide.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    kernel, bias = np.asarray(kernel, np.float64), np.asarray(bias, np.float64)
    _check(features, labels, kernel, bias)
    classes = kernel.shape[1]
    members = [np.flatnonzero(labels == c) for c in range(classes)]
    means = np.stack([features[m].mean(0, dtype=np.float64) for m in members])
    centred = means - means.mean(0)
    lengths = np.linalg.norm(centred, axis=1)
    # Sums of float32 features are known to about this.
    if not lengths.min() > 1e-7 * np.abs(means).max():
        raise UsageError(
            f"neural_collapse: the mean of class {lengths.argmin()} is that of all "
            "classes: the features do not tell it apart, and its angles are undefined"
        )

    # Σ_B = MᵀM/C, so tr(Σ_W Σ_B†)/C is the mean square of the residuals times M†.
    inverse = np.linalg.pinv(centred, rcond=_RANK)
    within = disagree = 0.0
    for c, index in enumerate(members):
        h = features[index].astype(np.float64)
        within += np.sum(np.square((h - means[c]) @ inverse)) / len(h)
        distance = np.square(means).sum(1) - 2 * h @ means.T
        differ = (h @ kernel + bias).argmax(1) != distance.argmin(1)
        disagree += differ.sum()

    directions = centred / lengths[:, None]
    gram = directions @ directions.T
    apart = ~np.eye(classes, dtype=bool)
    weights = kernel.T / max(np.linalg.norm(kernel), np.finfo(np.float64).tiny)
    return NeuralCollapse(
        within=float(within / classes),
        equinorm=float(lengths.std() / lengths.mean()),
        equiangle=float(gram[apart].std()),
        angle=float(np.abs(gram - simplex_gram(classes))[apart].max()),
        duality=float(np.linalg.norm(weights - centred / np.linalg.norm(centred))),
        nearest=float(disagree / len(features)),
    )


def _check(features, labels, kernel, bias):
    if features.ndim != 2 or not len(features) or labels.shape != (len(features),):
        raise UsageError(
            "neural_collapse: expected features [n, D] and labels [n], got "
            f"{features.shape} and {labels.shape}"
        )
    if kernel.ndim != 2 or len(kernel) != features.shape[1] or kernel.shape[1] < 2:
        raise UsageError(
            f"neural_collapse: kernel must be [{features.shape[1]}, C] with C >= 2, "
            f"got {kernel.shape}"
        )
    classes = kernel.shape[1]
    if bias.shape != (classes,):
        raise UsageError(f"neural_collapse: bias must be [{classes}], got {bias.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"neural_collapse: labels must be int, got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"neural_collapse: labels must be in [0, {classes}), got {labels.min()} .. "
            f"{labels.max()}; leave unlabelled rows out"
        )
    missing = np.setdiff1d(np.arange(classes), labels)
    if len(missing):
        raise UsageError(
            f"neural_collapse: class {missing[0]} has no example; every class needs one"
        )
    if not all(np.isfinite(x).all() for x in (features, kernel, bias)):
        raise UsageError(
            "neural_collapse: features, kernel and bias must be finite, got NaN or inf"
        )

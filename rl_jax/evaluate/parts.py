"""The part of the examples a classifier is fitted to, and the part that scores it."""

import numpy as np

from rl_jax.errors import UsageError
from rl_jax.evaluate import arguments
from rl_jax.evaluate.labels import class_labels, classes_of


def training_part(
    function: str, features, labels
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(features [n, D], classes [C], place int [n])`, checked; see `classes_of`.

    Raises:
      UsageError: for features that are not [n, D] and finite, labels that are not int
        [n] and ≥ 0, or fewer than two classes.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    _check_shapes(function, "training", features, labels)
    arguments.features(function, **{"training features": features})
    labels = class_labels(function, "training labels", labels, len(features))
    return features, *classes_of(function, labels)


def scoring_part(
    function: str, features, labels, like: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """`(features [m, D], labels int [m])`, checked.

    Args:
      function: named in the message.
      features, labels: what was given.
      like: shape of the training features.

    Raises:
      UsageError: for features that are not [m, D] and finite, or labels that are not
        int [m] and ≥ 0.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    _check_shapes(function, "test", features, labels)
    if features.shape[1] != like[1]:
        raise UsageError(
            f"{function}: test features must be [m, {like[1]}] beside {like}, got "
            f"{features.shape}"
        )
    arguments.features(function, **{"test features": features})
    return features, class_labels(function, "test labels", labels, len(features))


def _check_shapes(function, part, features, labels):
    if features.ndim != 2 or 0 in features.shape or labels.shape != features.shape[:1]:
        raise UsageError(
            f"{function}: expected {part} features [n, D], not empty, and labels [n], "
            f"got {features.shape} and {labels.shape}"
        )

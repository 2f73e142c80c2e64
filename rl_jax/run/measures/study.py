"""The arrays an evaluation measures, of a run or of a file."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from rl_jax import evaluate


class Pair(NamedTuple):
    """Rows of the examples that are learnt from, [n, D], and of the scored, [m, D]."""

    fit: np.ndarray
    scored: np.ndarray


class Study(NamedTuple):
    """What is known of a set of examples.

    Attributes:
      representations: by name, the trained ones first, then baselines.
      labels: int [n] and [m], -1 where unknown.
      titles: what each representation is called.
      headline: the representation that is looked at closely.
      network: of a method, that which it is of.
      classes: name of each label.
      baselines: names of those that were not trained.
      layers: of the encoder, in the order of execution.
      views: of the scored examples, two embeddings each [m, D] under two augmentations.
      clouds: gives many embeddings of some scored examples, [m, q, D] under q
        augmentations; called where they are needed, for they take long to make.
      temperature: of the method's softmax, where it has one.
      factors: float [n, F] and [m, F] true factors.
      factor_names: of the columns.
    """

    representations: dict[str, Pair]
    labels: Pair
    titles: dict[str, str]
    headline: str = "h"
    network: str = "online"
    classes: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    layers: dict[str, Pair] = {}
    views: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    clouds: Callable[[], dict[str, np.ndarray]] | None = None
    temperature: float | None = None
    factors: Pair | None = None
    factor_names: tuple[str, ...] = ()


class Labelled(NamedTuple):
    """The labelled rows of both sides, and labels as places among `classes`.

    Attributes:
      fit, scored: rows.
      fit_labels, scored_labels: int, place among `classes`; a scored class that none
        could be learnt of has the place len(classes).
      classes: int [C], the labels of the fit side.
    """

    fit: np.ndarray
    scored: np.ndarray
    fit_labels: np.ndarray
    scored_labels: np.ndarray
    classes: np.ndarray


def labelled(pair: Pair, labels: Pair) -> Labelled | None:
    """What can be learnt and scored; None without two classes or a scored label."""
    known, scored = labels.fit >= 0, labels.scored >= 0
    classes, place = np.unique(labels.fit[known], return_inverse=True)
    if len(classes) < 2 or not scored.any():
        return None
    found = labels.scored[scored]
    at = np.minimum(np.searchsorted(classes, found), len(classes) - 1)
    at = np.where(classes[at] == found, at, len(classes))
    return Labelled(pair.fit[known], pair.scored[scored], place, at, classes)


class Reading(NamedTuple):
    """The linear probe of a representation with all labels.

    Attributes:
      rows: what it was fitted to and is scored on.
      kernel, bias: float32 [D, C] and [C] for the raw features.
      logits: float32 [m, C] of the scored rows.
    """

    rows: Labelled
    kernel: np.ndarray
    bias: np.ndarray
    logits: np.ndarray


def readings(study: Study) -> dict[str, Reading]:
    """The probe of each representation; {} where the labels do not allow any."""
    found = {k: read(pair, study.labels) for k, pair in study.representations.items()}
    return {k: reading for k, reading in found.items() if reading is not None}


def read(pair: Pair, labels: Pair) -> Reading | None:
    """Fits the probe; None where the labels do not allow one."""
    rows = labelled(pair, labels)
    if rows is None:
        return None
    probe = evaluate.fit_probe(rows.fit, rows.fit_labels)
    kernel, bias = probe.weights[0], probe.bias[0]
    return Reading(rows, kernel, bias, rows.scored @ kernel + bias)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of [m, C] in float64."""
    return special.softmax(logits.astype(np.float64), axis=1)


def class_names(study: Study, classes: np.ndarray) -> list[str]:
    """The names of labels."""
    names = study.classes
    return [names[c] if c < len(names) else str(c) for c in classes]


def spread(count: int, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spread: data may be in order of classes."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)

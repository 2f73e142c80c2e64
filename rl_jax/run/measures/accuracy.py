"""How often a simple classifier of each representation is right, and by how much."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rl_jax import evaluate
from rl_jax.run.measures.section import Section, interval, number, shown
from rl_jax.run.measures.study import Reading, Study

DRAWS = 10
Predictions = dict[str, np.ndarray]
"""`probe:NAME:SHARE` and `knn:NAME:SHARE`: int [draws, m], places among the classes."""


def share_name(share: int | float | None) -> str:
    """What a column of so many labels per class, or that part of them, is called."""
    if share is None:
        return "all"
    return f"{100 * share:g}%" if isinstance(share, float) else str(share)


def table(
    study: Study,
    readings: dict[str, Reading],
    shares: Sequence[int | float | None],
    *,
    poll: Callable[[], None],
) -> tuple[list[dict[str, Any]], Predictions]:
    """Probe and k-NN of each representation and number of labels.

    Args:
      study: with labels.
      readings: of its representations, the probes with all labels.
      shares: labels per class; a float: that part of each class; None: all.
      poll: called between representations; may raise to stop.

    Returns:
      `[{"representation", "probe": {share: score}, "knn": {share: score}}]`, a score
      being `{"mean", "std", "draws", "low", "high"}`: the spread over the draws of
      labels, and the 95 % interval over the scored examples; and the predictions.
    """
    out, predictions = [], {}
    for name in study.representations:
        rows = readings[name].rows
        row: dict[str, Any] = {"representation": name, "probe": {}, "knn": {}}
        for share in shares:
            for kind, predict in (("probe", _probe), ("knn", _knn)):
                found = predict(readings[name], share)
                predictions[f"{kind}:{name}:{share_name(share)}"] = found
                row[kind][share_name(share)] = _score(found == rows.scored_labels)
        out.append(row)
        poll()
    return out, predictions


def probes(study: Study, readings: dict[str, Reading]) -> Section:
    """Ridge regression on the classes, and a network of one hidden layer."""
    rows, lines = [], []
    count = len(readings[study.headline].rows.fit)
    # Ten passes over the examples, within what an evaluation can wait for.
    steps = int(np.clip(10 * count / 128, 300, 3000))
    mlp = functools.partial(evaluate.mlp_probe, draws=1, steps=steps)
    for name, title in study.titles.items():
        found = readings[name].rows
        train = (found.fit, found.fit_labels)
        dim = found.fit.shape[1]
        entry: dict[str, Any] = {"representation": name, "title": title, "dim": dim}
        for kind, probe in (("ridge", evaluate.ridge_probe), ("mlp", mlp)):
            made = probe(*train, found.scored, found.scored_labels)
            entry[kind] = wilson(made.mean, len(found.scored))
        rows.append(entry)
        lines.append(
            f"{entry['title']}: ridge {shown(entry['ridge'])}, hidden layer "
            f"{shown(entry['mlp'])}"
        )
    lines.append(
        "accuracy with all labels; a hidden layer far above the linear probe says that "
        f"the classes are there but not linearly; it takes {steps} steps of at "
        "most 128 examples"
    )
    return Section("Other probes", lines, {"rows": rows})


def differences(study: Study, truth: np.ndarray, predictions: Predictions) -> Section:
    """The headline against the other representations, on the same scored examples."""
    first, rows, lines = study.headline, [], []
    ours = predictions[f"probe:{first}:all"] == truth
    own = sampled(ours)
    lines.append(f"{study.titles[first]}: probe with all labels {shown(own)}")
    for other in study.representations:
        if other == first:
            continue
        theirs = predictions[f"probe:{other}:all"] == truth
        found = evaluate.paired_difference(ours[0], theirs[0])
        rows.append(
            {
                "a": first,
                "b": other,
                "measure": "probe",
                "labels": "all",
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "images": len(truth),
            }
        )
        entry = number(found.difference, found.low, found.high)
        lines.append(f"minus {study.titles[other]}: {shown(entry)}{_said(found)}")
    lines.append(
        f"95 % intervals: paired bootstrap over {len(truth):,} scored examples"
    )
    return Section("Differences", lines, {"rows": rows})


def wilson(right: int | float, count: int) -> dict:
    """An accuracy as a `number`, with Wilson's interval."""
    return interval(evaluate.wilson_interval(round(right * count), count))


def sampled(right: np.ndarray) -> dict:
    """The mean of [draws, m] as a `number`, over scored examples.

    Wilson's interval of one draw, which has a width also where all are right; the
    bootstrap of several, whose draws share the examples.
    """
    if len(right) == 1:
        return wilson(right.mean(), right.shape[1])
    return interval(evaluate.bootstrap_interval(right.mean(0, dtype=np.float64)))


def _said(found) -> str:
    if found.low <= 0 <= found.high:
        return ", which could be chance"
    return ""


def _probe(reading: Reading, share: int | float | None) -> np.ndarray:
    if share is None:
        return reading.logits.argmax(1)[None]
    rows = reading.rows
    train = (rows.fit, rows.fit_labels)
    if isinstance(share, float):
        probe = evaluate.fit_probe(*train, label_fraction=share, draws=DRAWS)
    else:
        probe = evaluate.fit_probe(*train, labels_per_class=share, draws=DRAWS)
    scored = rows.scored.astype(np.float32)
    # One draw at a time: with many classes their logits are large.
    return np.stack(
        [
            (scored @ weights + bias).argmax(-1)
            for weights, bias in zip(probe.weights, probe.bias, strict=True)
        ]
    )


def _knn(reading: Reading, share: int | float | None) -> np.ndarray:
    rows = reading.rows
    if share is None:
        draws = np.arange(len(rows.fit))[None]
    elif isinstance(share, float):
        draws = evaluate.fraction_draws(rows.fit_labels, share, DRAWS, 0)
    else:
        draws = evaluate.label_draws(rows.fit_labels, share, DRAWS, 0)
    return np.stack(
        [
            np.asarray(evaluate.knn(rows.fit[d], rows.fit_labels[d], rows.scored))
            for d in draws
        ]
    )


def _score(right: np.ndarray) -> dict[str, Any]:
    accuracies = right.mean(1)
    several = len(accuracies) > 1
    # Of one example there is nothing to draw again.
    several_scored = right.shape[1] > 1
    over_scored = sampled(right) if several_scored else number(float(right.mean()))
    return {
        "mean": float(accuracies.mean()),
        "std": float(accuracies.std(ddof=1)) if several else None,
        "draws": len(accuracies),
        "low": over_scored["low"],
        "high": over_scored["high"],
    }

"""Layers, representations and checkpoints compared: CKA, and a probe of each."""

from collections.abc import Callable

import numpy as np

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.run.measures.accuracy import Predictions, wilson
from rl_jax.run.measures.section import Section, number, shown
from rl_jax.run.measures.study import Pair, Study, read, spread

ROWS = 5000
"""Scored examples that are compared, evenly spread."""
KERNEL_ROWS = 2000
"""Those that are compared by Gaussian kernels, which are n × n."""
_VARIES = 1e-6
"""Of the largest value; what varies less is constant up to rounding."""


def layers(
    study: Study,
    truth: np.ndarray,
    predictions: Predictions,
    *,
    poll: Callable[[], None],
) -> Section:
    """Probe and k-NN of each layer, in order, then what the table has of the rest."""
    rows = []
    for name, pair in study.layers.items():
        found = read(pair, study.labels)
        assert found is not None
        known = found.rows
        near = np.asarray(evaluate.knn(known.fit, known.fit_labels, known.scored))
        rows.append(_row(name, pair, found.logits.argmax(1), near, truth))
        poll()
    for name, pair in study.representations.items():
        if name not in study.baselines:
            said = (predictions[f"{kind}:{name}:all"][0] for kind in ("probe", "knn"))
            rows.append(_row(name, pair, *said, truth))
    lines = [
        f"{row['name']} [{row['dim']}]: probe {shown(row['probe'])}, k-NN "
        f"{shown(row['knn'])}"
        for row in rows
    ]
    best = max(rows, key=lambda row: row["probe"]["value"])
    near = [
        row["name"]
        for row in rows
        if row is not best and row["probe"]["high"] >= best["probe"]["low"]
    ]
    rest = f"; within the intervals of it: {', '.join(near)}" if near else ""
    lines.append(f"a linear probe reads most from {best['name']}{rest}")
    return Section("Layers", lines, {"rows": rows})


def _row(name: str, pair: Pair, probe, knn, truth) -> dict:
    return {
        "name": name,
        "dim": pair.fit.shape[1],
        "probe": wilson(np.mean(probe == truth), len(truth)),
        "knn": wilson(np.mean(knn == truth), len(truth)),
    }


def cka(study: Study) -> Section:
    """Debiased CKA of layers and representations, each with each, and by kernels."""
    pairs = study.layers | study.representations
    # What does not vary is similar to nothing; CKA is not defined for it.
    few = spread(len(study.labels.scored), ROWS)
    shown_of = {
        name: pair.scored[few]
        for name, pair in pairs.items()
        if varies(pair.scored[few])
    }
    names = list(shown_of)
    matrix = evaluate.cka_map(list(shown_of.values()), debiased=True)
    # Of few rows a debiased value can be far outside what CKA can be.
    matrix = np.clip(matrix, -1.0, 1.0)
    count = len(next(iter(shown_of.values())))
    lines, kernels = [], {}
    first, fewer = study.headline, spread(count, KERNEL_ROWS)
    for other in study.representations:
        if other == first or not {first, other} <= set(names):
            continue
        entry = _compared(shown_of[first], shown_of[other])
        kernels[other] = _by_kernels(shown_of[first][fewer], shown_of[other][fewer])
        lines.append(
            f"{study.titles[first]} and {study.titles[other]}: {shown(entry)}, by "
            f"Gaussian kernels {shown(kernels[other])}"
        )
    lines.append(
        f"debiased linear CKA over {count:,} scored examples: 1 for the same up to "
        "rotation and scale, 0 for unrelated ones; Gaussian kernels, half the median "
        "distance wide, look at near neighbours more than at far ones"
    )
    values = {
        "names": names,
        "matrix": matrix,
        "debiased": True,
        "rows": count,
        "kernels": kernels,
    }
    return Section("Similarity of representations", lines, values)


def drift(checkpoints: dict[int, Pair], labels: Pair) -> Section:
    """The headline representation of each checkpoint against the last, and each other.

    Args:
      checkpoints: by step, 0 for the untrained network; in order.
      labels: as in `Study`.
    """
    *_, last = checkpoints
    few = spread(len(checkpoints[last].scored), ROWS)
    final = checkpoints[last].scored[few]
    similar, probes, lines = [], [], []
    for step, pair in checkpoints.items():
        entry = number(1.0) if step == last else _compared(pair.scored[few], final)
        similar.append(entry)
        reading = read(pair, labels)
        probe = None
        if reading is not None:
            truth = reading.rows.scored_labels
            right = np.mean(reading.logits.argmax(1) == truth)
            probe = wilson(right, len(truth))
        probes.append(probe)
        said = f", probe {shown(probe)}" if probe else ""
        lines.append(f"step {step:,}: CKA with the last {shown(entry)}{said}")
    values = {
        "steps": list(checkpoints),
        "cka": similar,
        "probe": probes,
        "matrix": _each_with_each([pair.scored[few] for pair in checkpoints.values()]),
    }
    return Section("Drift over checkpoints", lines, values)


def varies(x: np.ndarray) -> bool:
    """Whether rows [n, D] differ by more than rounding, at any scale."""
    return bool(np.ptp(x, axis=0).max() > _VARIES * np.abs(x).max())


def _each_with_each(features: list[np.ndarray]) -> np.ndarray:
    """Debiased CKA, NaN where one of two does not vary or there are too few rows."""
    matrix = np.full((len(features),) * 2, np.nan)
    at = [i for i, x in enumerate(features) if len(x) >= 4 and varies(x)]
    if at:
        found = evaluate.cka_map([features[i] for i in at], debiased=True)
        matrix[np.ix_(at, at)] = np.clip(found, -1.0, 1.0)
    return matrix


def _by_kernels(x: np.ndarray, y: np.ndarray) -> dict:
    """CKA with Gaussian kernels as a `number`; null where it is not defined."""
    try:
        return number(evaluate.rbf_cka(x, y, debiased=True))
    except UsageError:  # most rows are equal, or kernels cannot tell them apart
        return number(float("nan"))


def _compared(x: np.ndarray, y: np.ndarray) -> dict:
    """Debiased CKA as a `number`; null where one of them does not vary."""
    if len(x) < 4 or not (varies(x) and varies(y)):
        return number(float("nan"))

    def statistic(a, b):
        return np.asarray(evaluate.linear_cka(a, b, debiased=True))

    if len(x) < 50:
        return number(float(np.clip(statistic(x, y), -1, 1)))
    found = evaluate.jackknife(statistic, x, y)
    return number(*(float(np.clip(v, -1, 1)) for v in found))

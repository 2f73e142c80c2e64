"""Whether the probabilities of the linear probe can be believed, and sets of labels."""

from typing import Any

import numpy as np
from scipy import special

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate.calibration import HOTTEST
from rl_jax.run.measures.section import Section, number, shown
from rl_jax.run.measures.study import Reading, Study, class_names, probabilities

ALPHA = 0.1
SPLITS = 20
RESAMPLES = 200
BINS = 15
LEAST_MISTAKES = 10
"""Of the probe, to fit a temperature: how large they are is all that bounds it."""


def calibration(reading: Reading) -> Section:
    """ECE, MCE, Brier score and NLL of the probe, before and after temperature scaling.

    The temperature is fitted to one half of the scored examples and judged on the
    other, over 20 random halves, where there are mistakes enough; all else is of all
    scored examples.
    """
    logits, labels = _scored(reading)
    p = probabilities(logits)
    diagram = evaluate.reliability(p, labels, bins=BINS)
    values: dict[str, Any] = {
        "reliability": diagram._asdict(),
        "ece": _gap(p, labels),
        "ece_mass": _gap(p, labels, equal_mass=True),
        # No interval: chance alone makes the largest of many gaps far too large.
        "mce": number(evaluate.maximum_calibration_error(p, labels)),
        "brier": _resampled(evaluate.brier_score, p, labels),
        "nll": _resampled(evaluate.negative_log_likelihood, p, labels),
    }
    found, line = _temperature(logits, labels)
    values |= found
    lines = [
        f"ECE {shown(values['ece'])} in {BINS} bins of equal width, "
        f"{shown(values['ece_mass'])} of equal mass (0: confidence is accuracy); the "
        f"worst bin is off by {values['mce']['value']:.3f}",
        f"Brier score {shown(values['brier'])}, NLL {shown(values['nll'])} nats (both: "
        "lower is better)",
        line,
    ]
    return Section("Calibration of the linear probe", lines, values)


def sets(study: Study, reading: Reading) -> Section:
    """Coverage and size of split-conformal sets at 90 %, LAC and APS.

    Calibrated on one half of the scored examples, counted on the other, over 20
    random halves.
    """
    logits, labels = _scored(reading)
    p, classes = probabilities(logits), logits.shape[1]
    rows, lines = [], []
    for name, method, per_class in (
        ("LAC", evaluate.lac_sets, False),
        ("APS", evaluate.aps_sets, False),
        ("LAC per class", evaluate.lac_sets, True),
        ("APS per class", evaluate.aps_sets, True),
    ):
        found = []
        for fit, held in _halves(len(labels)):
            made = method(
                p[fit], labels[fit], p[held], alpha=ALPHA, per_class=per_class
            )
            found.append(evaluate.set_coverage(made.sets, labels[held]))
        by_class = np.array([f.class_coverage for f in found])
        seen = np.isfinite(by_class)
        mean = np.where(seen, by_class, 0).sum(0) / np.maximum(seen.sum(0), 1)
        row = {
            "kind": name,
            "coverage": _over_splits([f.coverage for f in found]),
            "size": _over_splits([f.size for f in found]),
            "class_coverage": np.where(seen.any(0), mean, np.nan),
        }
        rows.append(row)
        least = np.nanmin(np.where(seen.any(0), mean, np.nan))
        lines.append(
            f"{name}: holds the true class {shown(row['coverage'])} of the time, "
            f"{shown(row['size'], 2)} of {classes} classes on average; least "
            f"{least:.2f} for a class"
        )
    lines.append(
        f"promised: at least {1 - ALPHA:.2f} on average over the halves; intervals "
        f"hold 90 % of {SPLITS} random halves, {len(labels) - len(labels) // 2} to "
        "calibrate"
    )
    values = {
        "alpha": ALPHA,
        "splits": SPLITS,
        "rows": rows,
        "classes": class_names(study, reading.rows.classes),
    }
    return Section("Conformal sets", lines, values)


def _scored(reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of scored examples whose class could be learnt."""
    labels = reading.rows.scored_labels
    known = labels < reading.logits.shape[1]
    if known.sum() < 20:
        raise UsageError(f"{known.sum()} scored labels are too few, it takes 20")
    return reading.logits[known], labels[known]


def _temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[dict, str]:
    """Temperature over halves and errors with it, None where none fits; in words.

    Halves whose best is at an end of the search are left out: to one without a mistake
    the coldest is best.
    """
    values: dict[str, Any] = {"temperature": None, "after": None, "left_out": None}
    mistakes = int((logits.argmax(1) != labels).sum())
    if mistakes < LEAST_MISTAKES:
        return values, (
            f"mistakes of the probe: {mistakes}, too few to fit a temperature, which "
            f"takes {LEAST_MISTAKES}"
        )
    logits, bins = logits.astype(np.float64), min(BINS, len(labels) // 2)
    temperatures, ece, nll = [], [], []
    for fit, held in _halves(len(labels)):
        best = evaluate.fit_temperature(logits[fit], labels[fit]).temperature
        if abs(np.log(best)) > np.log(HOTTEST) - 1e-6:
            continue
        scaled = logits[held] / best
        own = special.log_softmax(scaled, axis=1)[np.arange(len(held)), labels[held]]
        p = probabilities(scaled)
        temperatures.append(best)
        ece.append(evaluate.expected_calibration_error(p, labels[held], bins=bins))
        nll.append(-float(own.mean()))
    values["left_out"] = SPLITS - len(temperatures)
    if len(temperatures) < SPLITS / 2:
        return values, (
            f"no temperature: in {values['left_out']} of {SPLITS} random halves the "
            "best is at an end of the search"
        )
    values["temperature"] = found = _over_splits(temperatures)
    values["after"] = after = {"ece": _over_splits(ece), "nll": _over_splits(nll)}
    word = "too sure" if found["value"] > 1 else "not sure enough"
    if found["low"] <= 1 <= found["high"]:
        word = "as sure as it should be, as far as this tells"
    left_out = f" ({values['left_out']} left out, theirs is at an end of the search)"
    left_out = left_out if values["left_out"] else ""
    return values, (
        f"best temperature {shown(found, 2)}, which holds 90 % of {len(temperatures)} "
        f"random halves{left_out}: the probe is {word}; with it ECE "
        f"{after['ece']['value']:.3f}, NLL {after['nll']['value']:.3f} on the other "
        "half"
    )


def _halves(count: int):
    """Random halves: what is fitted to, and the rest."""
    rng = np.random.default_rng(0)
    for _ in range(SPLITS):
        order = rng.permutation(count)
        yield order[count // 2 :], order[: count // 2]


def _over_splits(values) -> dict:
    """The mean over splits, and where 90 % of them lie."""
    low, high = np.quantile(values, [0.05, 0.95])
    return number(float(np.mean(values)), float(low), float(high))


def _gap(p: np.ndarray, labels: np.ndarray, **options) -> dict:
    """ECE with its interval, from 0 on where calibrated probabilities give as much.

    Binning makes it too large, the more the smaller it is, so that resampling alone
    leaves out 0. Labels that are drawn from p show how large it is by chance.
    """
    measure = evaluate.expected_calibration_error
    found = _resampled(measure, p, labels, **options)
    rng = np.random.default_rng(0)
    predicted, confidence = p.argmax(1), p.max(1)
    chance = []
    for _ in range(RESAMPLES):
        wrong = rng.random(len(p)) >= confidence
        drawn = (predicted + wrong) % p.shape[1]
        chance.append(measure(p, drawn, **options))
    if found["value"] <= np.quantile(chance, 0.975):
        found["low"] = 0.0
    return found


def _resampled(measure, p: np.ndarray, labels: np.ndarray, **options) -> dict:
    """A measure with its basic bootstrap interval.

    Gaps between confidence and accuracy grow with resampling noise, so the
    percentiles are reflected at the estimate, cut at 0, and widened where they would
    leave it out.
    """
    value = measure(p, labels, **options)
    rng = np.random.default_rng(0)
    again = [
        measure(p[rows], labels[rows], **options)
        for rows in rng.integers(len(p), size=(RESAMPLES, len(p)))
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    below, above = 2 * value - float(high), 2 * value - float(low)
    return number(value, max(0.0, min(below, value)), max(above, value))

"""What the diagnostics of a training step say, in plain words and with numbers.

Pure Python, so that the report reads it without waiting for jax.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Level = Literal["good", "warning", "bad"]

COLLAPSED, HEALTHY = 0.2, 0.6
"""Of the collapse meter. Uniform on the sphere is 1; a half-sphere, as behind a ReLU,
about 0.8. SimSiam without its stop-gradient ends at 0.0 (Chen & He 2021, figure 2)."""

LINE, NARROW = 1.1, 1.5
"""Effective directions: at 1.1 one of them has 95 % of the variance, at 1.5 80 %. Not a
share of D: on digits z of SimSiam spreads along two, of SimCLR along three to ten; h of
MAE along three of 48, of the others along four to twenty of 128."""
LEAST_WIDTH = 16
"""Narrower codes may well use all they have in three directions."""

TOO_EVEN, TOO_SHARP = 0.995, 0.05
"""Of the entropy as a share of log K, which logits of standard deviation s leave at
1 − s²/(2 log K): at 0.995 and K = 512 the weights of candidates differ by a quarter.
The published 0.5 of SimCLR leaves 0.99 where embeddings spread along thirty directions.
At 0.05 nearly all the weight is one candidate's."""

APART = 0.02
"""How much nearer positives must be than negatives, as a cosine."""

FIRST = 50
"""Steps before which nothing is judged, but for a run that ends there."""


SIGN = {"bad": "failure", "warning": "warning"}
"""What is said before a verdict that is not good."""


class Verdict(NamedTuple):
    """A judgement on one metric.

    Attributes:
      metric: name of the metric beside whose curve it belongs.
      level: bad: the representation is of no use; warning: look; good.
      text: one sentence, with the number, what is expected, and what to do.
    """

    metric: str
    level: Level
    text: str


def verdicts(
    metrics: Mapping[str, float | None], *, dims: Mapping[str, int] | None = None
) -> list[Verdict]:
    """Judges one row of metrics, see `train.diagnostics`.

    Args:
      metrics: `z_std`, `z_rank`, `h_rank`, `softmax_entropy`, `positive_cosine`,
        `negative_cosine`, `active_units`; others are ignored. None or NaN: not finite.
      dims: widths D of `h` and `z`, for what is expected of them; where one is not
        given, it is left out.

    Returns:
      At most one for each metric. First the collapse meter, or for a latent-variable
      model the units in use; where that is bad, nothing else is judged: all of it
      follows from that.
    """
    dims = dims or {}
    found = []
    values = {k: v for k, v in metrics.items() if v is not None and math.isfinite(v)}
    if "active_units" in values:
        # A code of its own scale and mean: the sphere says nothing of it.
        found.append(_units(values["active_units"], dims.get("z")))
    elif "z_std" in metrics:
        found.append(_spread(metrics["z_std"], dims.get("z")))
    if found and found[0].level == "bad":
        return found
    for name in ("z", "h"):
        if f"{name}_rank" in values and dims.get(name, math.inf) >= LEAST_WIDTH:
            found.append(_rank(name, values[f"{name}_rank"], dims.get(name)))
    if "softmax_entropy" in values:
        found.append(_temperature(values["softmax_entropy"]))
    if {"positive_cosine", "negative_cosine"} <= values.keys():
        found.append(_pairs(values["positive_cosine"], values["negative_cosine"]))
    return found


def judged_from(steps: int) -> int:
    """The step from which on verdicts are worth saying, of a run of so many.

    A tenth of the run, at least 50 and at most 1000 steps: until then two towers know
    nothing of each other, a predictor follows a target that has not moved, and a
    warm-up has not let the optimizer begin.
    """
    return min(steps, max(FIRST, min(steps // 10, 1000)))


def summary(found: Sequence[Verdict]) -> str:
    """All verdicts in one line: what is wrong, else the numbers that are fine."""
    wrong = [v for level in ("bad", "warning") for v in found if v.level == level]
    if wrong:
        return "; ".join(f"{SIGN[v.level]}: {v.text}" for v in wrong)
    return "; ".join(v.text for v in found)


def spread(meter: float, dim: int | None) -> str:
    """The collapse meter in words, `evaluate.normalized_std`.

    Args:
      meter: finite, ≥ 0.
      dim: D of the embeddings.

    Returns:
      For instance "collapsed: std 0.002, expected 0.088 for D=128".
    """
    word = "healthy" if meter >= HEALTHY else "partly collapsed"
    if meter <= COLLAPSED:
        word = "collapsed"
    if not dim:
        return f"{word}: std {meter:.2f} of what is expected"
    expected = dim**-0.5
    return f"{word}: std {meter * expected:.3f}, expected {expected:.3f} for D={dim}"


def _spread(value: float | None, dim: int | None) -> Verdict:
    if value is None or not math.isfinite(value):
        text = "not finite: the embeddings hold NaN or inf; lower the learning rate"
        return Verdict("z_std", "bad", text)
    said = spread(value, dim)
    if value <= COLLAPSED:
        text = (
            f"{said}: all examples get nearly the same embedding; if it stays so, "
            "start again with a lower learning rate, or with what holds this method "
            "open (stop-gradient, predictor, negatives, variance term)"
        )
        return Verdict("z_std", "bad", text)
    if value < HEALTHY:
        text = (
            f"{said}: embeddings use a part of the sphere only; "
            "watch whether it falls further; where there is a temperature, raise it"
        )
        return Verdict("z_std", "warning", text)
    text = f"{said}: embeddings are spread over the sphere"
    return Verdict("z_std", "good", text)


def _units(count: float, dim: int | None) -> Verdict:
    number = f"{count:.0f}" + (f" of {dim}" if dim else "")
    if count >= 1:
        text = f"healthy: {number} latent dimensions carry information"
        return Verdict("active_units", "good", text)
    text = (
        f"posterior collapse: {number} latent dimensions carry information: the "
        "decoder ignores the code; lower beta, warm it up, or use free bits"
    )
    return Verdict("active_units", "bad", text)


def _rank(name: str, value: float, dim: int | None) -> Verdict:
    metric = f"{name}_rank"
    number = f"effective rank {value:.1f}" + (f" of {dim}" if dim else "")
    if value >= NARROW:
        return Verdict(metric, "good", f"{name}: {number}")
    text = (
        f"dimensional collapse of {name}: {number}: embeddings lie nearly on a line, "
        "which only labels of two classes explain; use stronger augmentation, a larger "
        "batch, or a loss that decorrelates"
    )
    return Verdict(metric, "bad" if value < LINE else "warning", text)


def _temperature(share: float) -> Verdict:
    number = f"entropy {share:.3f} of log K"
    if share >= TOO_EVEN:
        text = (
            f"temperature too high: {number}: all candidates weigh the same, hard "
            "negatives no more than easy ones; lower it if the probe stalls"
        )
    elif share <= TOO_SHARP:
        text = (
            f"temperature too low: {number}: only the nearest candidate counts; raise "
            "the temperature, or, if the loss is near 0, make the task harder"
        )
    else:
        return Verdict("softmax_entropy", "good", f"softmax {number}")
    return Verdict("softmax_entropy", "warning", text)


def _pairs(positive: float, negative: float) -> Verdict:
    number = f"cosine {positive:.2f} against {negative:.2f}"
    if positive - negative >= APART:
        text = f"positives nearer than negatives, {number}"
        return Verdict("alignment", "good", text)
    text = (
        f"positives are no closer than negatives: {number}: nothing is learned of what "
        "views share; check that the views show the same example, and the learning rate"
    )
    return Verdict("alignment", "bad", text)

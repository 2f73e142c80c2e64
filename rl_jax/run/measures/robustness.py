"""Accuracy of the linear probe on corrupted and on attacked images."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import numpy as np

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate import corruptions
from rl_jax.run.measures.accuracy import wilson
from rl_jax.run.measures.section import Section, interval, number, shown
from rl_jax.run.measures.study import Reading, spread

STEPS = 20
ATTACKED = 100
"""Images that are attacked, evenly spread."""
BLOCK = 256
"""Images that pass through an encoder at a time."""
RADII = {
    "linf": tuple(k / 255 for k in (0, 4, 8, 16, 32)),
    "l2": (0.0, 0.25, 0.5, 1.0, 2.0),
}


class Seen(NamedTuple):
    """A representation of images, and what a probe reads from it.

    Attributes:
      name: of the representation.
      encode: `(images [B, H, W, C] float32 in [0, 1]) -> [B, D]`, pure.
      reading: its linear probe, on clean images.
    """

    name: str
    encode: Callable[[chex.Array], chex.Array]
    reading: Reading


class Images(NamedTuple):
    """Scored images with labels, and who looks at them.

    Attributes:
      seen: representations, the headline first.
      clean: [m, H, W, C] float32 in [0, 1].
      labels: int [m], places among the classes of the probes.
      baseline: name of the one in whose errors those of the others are counted.
    """

    seen: tuple[Seen, ...]
    clean: np.ndarray
    labels: np.ndarray
    baseline: str


def corrupted(images: Images, *, poll: Callable[[], None]) -> Section:
    """Accuracy under each corruption and severity, and the mean corruption error.

    Args:
      images: and the representations.
      poll: called between corruptions; may raise to stop.
    """
    seen, labels, baseline = images.seen, images.labels, images.baseline
    predict = {s.name: jax.jit(_logits(s)) for s in seen}
    count = len(labels)
    size = -(-count // -(-count // BLOCK))
    # Blocks of one shape: the last is filled up from the beginning.
    blocks = [np.arange(i, i + size) % count for i in range(0, count, size)]
    untouched = [images.clean[b] for b in blocks]

    def right(s: Seen, parts) -> np.ndarray:
        found = [np.asarray(predict[s.name](x)).argmax(1) for x in parts]
        return np.concatenate(found)[:count] == labels

    def corrupted_by(name: str, severity: int) -> list:
        rng = jax.random.fold_in(jax.random.key(0), severity)
        return [
            corruptions.corrupt(
                jax.random.fold_in(rng, i), part, name=name, severity=severity
            )
            for i, part in enumerate(untouched)
        ]

    names = [name for family in corruptions.CORRUPTIONS.values() for name in family]
    # [m, F, 5] each: of every image, under every corruption and severity.
    hits = {s.name: np.zeros((len(labels), len(names), 5), bool) for s in seen}
    for i, name in enumerate(names):
        for j, severity in enumerate(corruptions.SEVERITIES):
            parts = corrupted_by(name, severity)
            for s in seen:
                hits[s.name][:, i, j] = right(s, parts)
        poll()
    clean = {s.name: float(right(s, untouched).mean()) for s in seen}
    accuracy = {
        s.name: dict(zip(names, hits[s.name].mean(0).tolist(), strict=True))
        for s in seen
    }
    mce = {s.name: _mce(hits[s.name], hits[baseline]) for s in seen}
    first = seen[0].name
    mean = {s.name: float(hits[s.name].mean()) for s in seen}
    worst = min(names, key=lambda name: np.mean(accuracy[first][name]))
    lines = [
        f"{s.name}: {clean[s.name]:.3f} on clean images, {mean[s.name]:.3f} over all "
        f"corruptions and severities, mean corruption error {shown(mce[s.name], 2)}"
        for s in seen
    ]
    lines.append(
        f"{first} loses most to {worst.replace('_', ' ')}: "
        f"{np.mean(accuracy[first][worst]):.3f}; mean corruption error: errors as a "
        f"share of those of {baseline} (1: as many), probes fitted to clean images, "
        f"{len(labels):,} images"
    )
    values = {
        "families": {k: list(v) for k, v in corruptions.CORRUPTIONS.items()},
        "severities": list(corruptions.SEVERITIES),
        "accuracy": accuracy,
        "clean": clean,
        "mean": mean,
        "mce": mce,
        "baseline": baseline,
        "images": len(labels),
    }
    return Section("Corruptions", lines, values)


def attacked(images: Images, *, poll: Callable[[], None]) -> Section:
    """Accuracy under projected gradient descent through encoder and probe.

    Args:
      images: and the representations; 100 of them are attacked. Of the
        baselines, the one that corruptions are measured by.
      poll: called between attacks; may raise to stop.
    """
    few = spread(len(images.labels), ATTACKED)
    clean, labels = images.clean[few], images.labels[few]
    count, rng = len(labels), jax.random.key(0)
    rows, lines, masking = [], [], []
    for s in images.seen:
        if s is not images.seen[0] and s.name != images.baseline:
            continue
        logits = _logits(s)
        for norm, sign in (("linf", "ℓ∞"), ("l2", "ℓ₂")):
            found = evaluate.robust_accuracy(
                rng, clean, labels,
                logits_fn=logits, norm=norm, radii=RADII[norm], steps=STEPS,
            )  # fmt: skip
            accuracy = [wilson(a, count) for a in found.accuracy]
            rows.append(
                {
                    "norm": norm,
                    "representation": s.name,
                    "radii": list(RADII[norm]),
                    "accuracy": [a["value"] for a in accuracy],
                    "low": [a["low"] for a in accuracy],
                    "high": [a["high"] for a in accuracy],
                }
            )
            poll()
            tried = list(zip(found.radii, accuracy, strict=True))
            told = [tried[0], tried[len(tried) // 2], tried[-1]]
            lines.append(
                f"{s.name}, {sign}: accuracy "
                + ", ".join(f"{shown(a)} at radius {r:.3g}" for r, a in told)
            )
            if s is images.seen[0] and norm == "linf":
                found = _masking(found, clean, labels, logits, norm)
                masking.append(f"{s.name}, {sign}: {found}")
                poll()
    lines.append(
        f"{STEPS} steps of projected gradient descent through encoder and probe, "
        f"pixels in [0, 1], {count:,} images; an upper bound of robust accuracy"
    )
    values = {"rows": rows, "masking": masking, "steps": STEPS, "images": count}
    return Section("Attacks", [*lines, *masking], values)


def _masking(found, clean, labels, logits, norm) -> str:
    """Whether gradients can be trusted, at the radius where they begin to matter."""
    fallen = found.accuracy < 0.8 * found.accuracy[0]
    radius = found.radii[fallen.argmax() if fallen.any() else -1]
    return evaluate.gradient_masking(
        jax.random.key(1), clean, labels,
        logits_fn=logits, norm=norm, radius=float(radius), steps=STEPS,
    ).verdict  # fmt: skip


def _logits(s: Seen):
    kernel, bias = s.reading.kernel, s.reading.bias

    def logits(images):
        return s.encode(images) @ kernel + bias[None]

    return logits


def _mce(hits: np.ndarray, baseline: np.ndarray) -> dict:
    """Of [m, F, 5], as a `number`; NaN where the baseline withstands a corruption."""
    if baseline.all((0, 2)).any():
        return number(float("nan"))

    def statistic(ours, theirs):
        errors = (1 - ours.mean(0), 1 - theirs.mean(0))
        return corruptions.mean_corruption_error(*errors).mce

    try:
        found = evaluate.jackknife(statistic, hits, baseline)
    except UsageError:
        # Few images, or groups of them without which the baseline is never wrong.
        return number(float(statistic(hits, baseline)))
    return interval(found)

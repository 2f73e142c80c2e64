"""Which images an evaluation learns from and scores, and what it can measure there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rl_jax import data
from rl_jax.errors import UsageError
from rl_jax.run.measures import spread

Share = int | float | None
"""Labels to learn from: so many per class, a float: that part of each class, all."""
SHARES: tuple[Share, ...] = (1, 10, None)


class Part(NamedTuple):
    """One side of an evaluation: images of a source by index, and their labels."""

    source: data.Source
    index: np.ndarray
    labels: np.ndarray


def shares_of(words: Sequence[str]) -> tuple[Share, ...]:
    """Numbers of labels per class as `10`, parts of the labels as `1%`; then all.

    Raises:
      UsageError: naming the first word that is neither.
    """
    found: list[Share] = []
    for word in dict.fromkeys(words):
        share = share_of(word)
        if share is None:
            raise UsageError(
                "evaluate: --labels must be numbers per class, as 10, or parts of the "
                f"labels up to 100%, as 1%, got {word!r}"
            )
        found.append(share)
    return *found, None


def share_of(word: str) -> int | float | None:
    """The number of `10`, the part of `1%`; None for any other word."""
    number, part = word.removesuffix("%"), word.endswith("%")
    try:
        value = float(number) / 100 if part else int(number)
    except ValueError:
        return None
    return value if (0 < value <= 1 if part else value >= 1) else None


def split(source: data.Source) -> tuple[Part, Part, str]:
    """The part that probes learn from, the part that is scored, and a note on it.

    Without a held-out part it is `every_fifth` of the fixed order of the source that is
    scored. Where no class has two images, all of them are looked at and none is scored.
    """
    if source.held_out is not None:
        parts = [_whole(each) for each in (source, source.held_out)]
        return *parts, "scored on held-out images"
    labels = _labels(source)
    scored = every_fifth(labels)
    if not scored.any():
        unknown = np.full(source.size, -1, np.int32)
        whole = _whole(source)
        return whole, whole._replace(labels=unknown), "no image could be held out"
    parts = []
    for chosen in (~scored, scored):
        index = np.flatnonzero(chosen)
        parts.append(Part(source, index, labels[index]))
    note = "no held-out part: pretraining has seen the scored fifth, without labels"
    return *parts, note


def at_most(part: Part, most: int) -> Part:
    """At most so many of the images, in the order they had.

    Those with a label first, of each class its part: but ten, or all that it has, where
    that leaves half to be shared out, and one where it does not.
    """
    if len(part.index) <= most:
        return part
    classes, counts = np.unique(part.labels[part.labels >= 0], return_counts=True)
    least = np.minimum(counts, 10 if 20 * len(classes) <= most else 1)
    if counts.sum() <= most:
        least = counts
    elif least.sum() > most:
        least = np.zeros_like(counts)
    rest = counts - least
    share = (most - least.sum()) / max(1, rest.sum())
    each = least + np.floor(rest * min(1.0, share)).astype(int)
    left = max(0, most - counts.sum())  # for those without a label
    chosen = []
    for label, count in zip([-1, *classes], [left, *each], strict=True):
        there = np.flatnonzero(np.maximum(part.labels, -1) == label)
        chosen.append(there[spread(len(there), count)])
    chosen = np.sort(np.concatenate(chosen))
    return part._replace(index=part.index[chosen], labels=part.labels[chosen])


def every_fifth(labels: np.ndarray) -> np.ndarray:
    """Bool [n]: every fifth example of each label, the last one of two to four."""
    scored = np.zeros(len(labels), bool)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        scored[members[4::5] if len(members) >= 5 else members[1:][-1:]] = True
    return scored


def rows_of(part: Part) -> data.Source:
    """The chosen rows of a source, as a source."""
    if len(part.index) == part.source.size:
        return part.source
    return data.rows(part.source, part.index)


def as_read(part: Part) -> Part:
    """The part after its images were read: no labels of files that were no images."""
    found = data.labels_at(part.source, part.index)
    return part._replace(labels=np.where(part.labels < 0, -1, found))


def _whole(source: data.Source) -> Part:
    return Part(source, np.arange(source.size), _labels(source))


def _labels(source: data.Source) -> np.ndarray:
    if source.labels is None:
        return np.full(source.size, -1, np.int32)
    return np.asarray(source.labels)


class Columns(NamedTuple):
    """What the labels of both parts allow.

    Attributes:
      shares: labels that can be drawn, of those asked for; empty: nothing to probe.
      notes: a line for each thing that is missing or odd.
      reason: why there is nothing to probe, or None.
    """

    shares: list[Share]
    notes: list[str]
    reason: str | None


def columns(
    fit: np.ndarray,
    scored: np.ndarray,
    names: Sequence[str] = (),
    *,
    shares: Sequence[Share] = SHARES,
    of: data.Source | None = None,
) -> Columns:
    """Which numbers of labels per class can be measured, and why others cannot.

    Args:
      fit, scored: int [n], [m] labels of the two parts, -1 where unknown.
      names: of the classes.
      shares: numbers and parts asked for; of a part every class has at least one.
      of: the data, for how its examples get labels; None: images.
    """
    classes, counts = np.unique(fit[fit >= 0], return_counts=True)
    found = np.unique(scored[scored >= 0])
    if len(classes) < 2 or not len(found):
        return Columns([], [], _reason(classes, found, names, of))
    missed = [s for s in shares if isinstance(s, int) and s > counts.min()]
    notes = [
        f"no column of {share} labels per class: too few images to learn from of class "
        f"{_named(classes[counts < share], names)}"
        for share in missed
    ]
    unlearnt, unscored = np.setdiff1d(found, classes), np.setdiff1d(classes, found)
    if len(unlearnt):
        notes.append(
            f"{np.isin(scored, unlearnt).sum()} of the scored images count as wrong: "
            f"there is none to learn from of class {_named(unlearnt, names)}"
        )
    if len(unscored):
        notes.append(f"no image is scored of class {_named(unscored, names)}")
    return Columns([s for s in shares if s not in missed], notes, None)


def labelling(source: data.Source | None) -> str:
    """How the examples of data without labels get some."""
    if _of_texts(source):
        return "give the texts of each class in a sub-folder of their own"
    return "name them by sub-folders, or `label` in an .npz"


def _of_texts(source: data.Source | None) -> bool:
    return source is not None and not source.image_shape and bool(source.vocabulary)


def _reason(
    classes: np.ndarray,
    found: np.ndarray,
    names: Sequence[str],
    source: data.Source | None,
) -> str:
    if len(classes) == 1:
        return f"there are labels of one class only, {_named(classes, names)}"
    if len(classes):
        kind = "text" if _of_texts(source) else "image"
        return f"no scored {kind} has a label (a class needs two to have one held out)"
    return f"the data has no labels ({labelling(source)})"


def _named(classes: np.ndarray, names: Sequence[str], *, most: int = 5) -> str:
    shown = [names[c] if c < len(names) else str(c) for c in classes[:most]]
    more = len(classes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")

"""Axes with round ticks, and curves thinned to what a small figure can show."""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

Points = list[tuple[float, float]]


class Axis(NamedTuple):
    """A range of values and its ticks.

    Attributes:
      low, high: the ends, low < high.
      ticks: values in [low, high].
      labels: of the ticks.
      log: whether distances are those of logarithms.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    log: bool = False


def linear(values: Sequence[float], *, count: int = 4, unit: str = "") -> Axis:
    """An axis that holds all values, with ticks at 1, 2 or 5 times a power of ten.

    Args:
      values: finite, below 1e150 in size; none gives [0, 1].
      count: about how many intervals.
      unit: "%" shows shares as percentages; else written after the number.

    Returns:
      An axis that ends at ticks.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-100):
        pad = 0.1 * abs(low) or 1.0
        low, high = low - pad, high + pad
    step = nice_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Dividing by the reciprocal gives 0.3 where 3 * 0.1 does not.
    inverse = round(1 / step) if step < 1 and 1 / step < 1e15 else None
    ticks = tuple(i / inverse if inverse else i * step for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, tick_labels(ticks, unit=unit))


def logarithmic(values: Sequence[float]) -> Axis:
    """An axis of decades that holds all values, each > 0."""
    first = math.floor(math.log10(min(values)) + 1e-9)
    last = max(math.ceil(math.log10(max(values)) - 1e-9), first + 1)
    every = math.ceil((last - first) / 5)
    ticks = tuple(10.0**e for e in range(first, last + 1, every))
    labels = tuple(f"{t:g}" if 1e-3 <= t < 1e4 else f"{t:.0e}" for t in ticks)
    return Axis(10.0**first, 10.0**last, ticks, labels, log=True)


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `least` > 0."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def tick_labels(ticks: Sequence[float], *, unit: str = "") -> tuple[str, ...]:
    """Labels with the decimals the ticks need and no more; 12,000 becomes 12k."""
    scale, suffix = 1.0, unit
    top = max(map(abs, ticks))
    if unit == "%":
        scale = 100.0
    else:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
            if top >= size:
                scale, suffix = (1e-3 if letter == "k" else 1 / size), letter + unit
                break
    step = scale * (ticks[1] - ticks[0])
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > 4 or top * scale >= 1e6:
        return tuple(f"{t:.1e}".replace("-", "−") for t in ticks)
    return tuple(
        f"{t * scale + 0.0:,.{decimals}f}".replace("-", "−")
        + (suffix if t or unit else "")
        for t in ticks
    )


def position(axis: Axis, value: float, start: float, end: float) -> float:
    """Where a value lies when the axis is drawn from `start` to `end`."""
    low, high = axis.low, axis.high
    if axis.log:
        low, high, value = math.log10(low), math.log10(high), math.log10(value)
    return start + (value - low) / (high - low) * (end - start)


def segments(x: Sequence[float], y: Sequence[float | None]) -> list[Points]:
    """The runs of consecutive points that have a value."""
    out: list[Points] = [[]]
    for at, value in zip(x, y, strict=True):
        if value is not None:
            out[-1].append((at, value))
        elif out[-1]:
            out.append([])
    return [segment for segment in out if segment]


def curve(
    x: Sequence[float], y: Sequence[float | None], *, most: int = 400
) -> list[Points]:
    """Segments with at most `most` points together, as `thin` chooses them.

    With more gaps than a figure can show the gaps are closed.
    """
    found = segments(x, y)
    if len(found) > most // 8:
        found = [[point for segment in found for point in segment]]
    if len(found) <= 1:
        return [thin(segment, most=most) for segment in found]
    total = sum(map(len, found))
    shares = [max(4, most // 2 * len(segment) // total) for segment in found]
    return [thin(s, most=share) for s, share in zip(found, shares, strict=True)]


def trend(x: Sequence[float], y: Sequence[float | None], *, most: int = 100) -> Points:
    """Means of `most` equal stretches of a curve's points; none of a short curve."""
    points = [(at, value) for at, value in zip(x, y, strict=True) if value is not None]
    if len(points) < 2 * most:
        return []
    ends = [i * len(points) // most for i in range(most + 1)]
    chunks = [points[a:b] for a, b in itertools.pairwise(ends)]
    return [
        (statistics.fmean(p[0] for p in chunk), statistics.fmean(p[1] for p in chunk))
        for chunk in chunks
    ]


def thin(points: Points, *, most: int = 400) -> Points:
    """At most `most` (≥ 4) points: the first, the last and every peak and dip.

    Of each of `most / 2 − 1` equal stretches the lowest and the highest point stay.
    """
    if len(points) <= most:
        return points
    bins = max(1, most // 2 - 1)
    inner = points[1:-1]
    kept = []
    for i in range(bins):
        chunk = inner[i * len(inner) // bins : (i + 1) * len(inner) // bins]
        ends = {min(chunk, key=lambda p: p[1]), max(chunk, key=lambda p: p[1])}
        kept += sorted(ends)
    return [points[0], *kept, points[-1]]

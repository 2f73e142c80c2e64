"""Curves through a few measured values, each with its dot and its interval."""

from collections.abc import Sequence
from typing import NamedTuple

from rl_jax.report import axes, svg
from rl_jax.report.axes import Axis
from rl_jax.report.intervals import known
from rl_jax.report.markup import Markup
from rl_jax.report.sections import Interval
from rl_jax.report.svg import Box
from rl_jax.report.words import told


class Track(NamedTuple):
    """Values over x, of equal length."""

    name: str
    x: Sequence[float]
    values: Sequence[Interval]
    colour: str


def tracks(
    curves: Sequence[Track],
    *,
    label: str,
    x_axis: Axis,
    x_title: str,
    y_title: str,
    unit: str = "",
    whole: bool = False,
) -> Markup:
    """Curves over a common axis of few places.

    Args:
      curves: at least one.
      label: the figure in a few words; the values are added.
      x_axis: holds all places.
      x_title, y_title: what the axes count.
      unit: "%" for shares.
      whole: the axis of the values starts at 0.
    """
    values = known(value for curve in curves for value in curve.values)
    y_axis = axes.linear([*values, *([0.0] if whole else [])], unit=unit)
    box = Box(360, 212, left=44, right=350, top=24, bottom=174)
    drawn = [svg.frame(box, x_axis, y_axis, x_title, y_title)]
    for curve in curves:
        for segment in axes.segments(curve.x, [v.value for v in curve.values]):
            points = [svg.place(box, x_axis, y_axis, *point) for point in segment]
            if len(points) > 1:
                line = f"line {curve.colour}"
                drawn.append(svg.path(points, line, curve.name))
        for x, value in zip(curve.x, curve.values, strict=True):
            if value.value is None:
                continue
            title = f"{curve.name}, {x:g}: {told(value, unit=unit)}"
            across, at = svg.place(box, x_axis, y_axis, x, value.value)
            if value.low is not None and value.high is not None:
                ends = (value.low, value.high)
                bar = [svg.place(box, x_axis, y_axis, x, end) for end in ends]
                drawn.append(svg.path(bar, f"bar {curve.colour}", title))
            drawn.append(svg.dot(across, at, curve.colour, title, radius=2.6))
    said = "; ".join(
        f"{curve.name} {', '.join(told(v, unit=unit) for v in curve.values)}"
        for curve in curves
    )
    return svg.figure(box, f"{label}: {said}", drawn)

"""Values with their intervals, a row each: forest plots and profiles."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rl_jax.report import axes, charts, svg
from rl_jax.report.axes import Axis
from rl_jax.report.markup import Markup
from rl_jax.report.sections import Interval
from rl_jax.report.svg import Box
from rl_jax.report.words import told

_MOST_SAID = 40


class Mark(NamedTuple):
    """A value of a row; those of one series are joined where that is asked for."""

    series: str
    value: Interval
    colour: str


class Row(NamedTuple):
    """What stands at one height."""

    name: str
    marks: Sequence[Mark]


def intervals(
    rows: Sequence[Row],
    *,
    label: str,
    x_title: str,
    unit: str = "",
    references: Sequence[tuple[float, str]] = (),
    joined: bool = False,
    stacked: bool = False,
) -> Markup:
    """Dots with their intervals over a common axis, a row for each name.

    Args:
      rows: from above to below, at least one value in all.
      label: the figure in a few words; the values are added.
      x_title: what the axis counts.
      unit: "%" for shares.
      references: vertical lines, as (x, text).
      joined: draw a line through the values of each series.
      stacked: the name and the value of a row over it, for long names and few rows.
    """
    axis = _axis(rows, unit, references)
    step = 30.0 if stacked else max(17.0, 5.0 * _most(rows) + 9)
    longest = max(len(row.name) for row in rows)
    left = 12.0 if stacked else min(118.0, 14 + 6.6 * longest)
    top = 20.0 if references else 8.0
    bottom = top + step * len(rows) + 4
    box = Box(360, bottom + 38, left, 344, top, bottom)
    drawn = [_grid(box, axis, x_title), _references(box, axis, references)]
    trails: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for i, row in enumerate(rows):
        middle = top + step * (i + 0.5) + (7 if stacked else 0)
        if stacked:
            name = charts.shorten(row.name, 33)
            drawn.append(svg.text(left - 10, middle - 9, name, class_="over"))
            one = len(row.marks) == 1
            values = [m.value if one else Interval(m.value.value) for m in row.marks]
            said = ", ".join(told(value, unit=unit) for value in values)
            end = {"text_anchor": "end", "class_": "over"}
            drawn.append(svg.text(354, middle - 9, charts.shorten(said, 26), **end))
        else:
            name = charts.shorten(row.name, 16)
            drawn.append(svg.text(left - 8, middle + 4, name, text_anchor="end"))
        for k, mark in enumerate(row.marks):
            y = middle + 5.0 * (k - (len(row.marks) - 1) / 2)
            x = _drawn(box, axis, y, row.name, mark, unit)
            if x is not None:
                at, dots = x
                trails.setdefault((mark.series, mark.colour), []).append((at, y))
                drawn.append(dots)
    lines = [
        svg.path(points, f"thin line {colour}", series)
        for (series, colour), points in trails.items()
        if joined and len(points) > 1
    ]
    content = [drawn[:2], lines, drawn[2:]]
    return svg.figure(box, _said(label, rows, unit), content, wide=True)


def _most(rows: Sequence[Row]) -> int:
    return max(len(row.marks) for row in rows)


def _axis(rows: Sequence[Row], unit: str, references) -> Axis:
    marks = (mark for row in rows for mark in row.marks)
    values = [v for v in known(mark.value for mark in marks)]
    return axes.linear([*values, *(x for x, _ in references)], count=4, unit=unit)


def known(values: Iterable[Interval]) -> list[float]:
    """Every value and end that there is."""
    return [end for value in values for end in value if end is not None]


def _drawn(box: Box, axis: Axis, y: float, name: str, mark: Mark, unit: str):
    """Where a value lies, and its dot and bar; None without a value."""
    value, low, high = mark.value
    if value is None:
        return None
    x = axes.position(axis, value, box.left, box.right)
    what = f"{name}, {mark.series}" if mark.series else name
    title = f"{what}: {told(mark.value, unit=unit)}"
    out = [svg.dot(x, y, mark.colour, title, radius=2.8)]
    if low is not None and high is not None:
        ends = [axes.position(axis, end, box.left, box.right) for end in (low, high)]
        bar = [(end, y) for end in ends]
        out.insert(0, svg.path(bar, f"bar {mark.colour}", title))
    return x, out


def _grid(box: Box, axis: Axis, x_title: str) -> list[Markup]:
    out = []
    for tick, label in zip(axis.ticks, axis.labels, strict=True):
        x = axes.position(axis, tick, box.left, box.right)
        out.append(svg.path([(x, box.top), (x, box.bottom)], "grid", ""))
        out.append(svg.text(x, box.bottom + 14, label, text_anchor="middle"))
    middle = (box.left + box.right) / 2
    return [*out, svg.text(middle, box.bottom + 30, x_title, text_anchor="middle")]


def _references(box: Box, axis: Axis, references) -> list[Markup]:
    out = []
    for value, name in references:
        x = axes.position(axis, value, box.left, box.right)
        out.append(svg.path([(x, box.top - 4), (x, box.bottom)], "reference", ""))
        half = 3.4 * len(name)
        at = min(max(x, 4 + half), 356 - half)
        out.append(svg.text(at, box.top - 8, name, text_anchor="middle"))
    return out


def _said(label: str, rows: Sequence[Row], unit: str) -> str:
    said = [
        f"{row.name} "
        + ", ".join(
            f"{mark.series} {told(mark.value, unit=unit)}".strip() for mark in row.marks
        )
        for row in rows[:_MOST_SAID]
    ]
    rest = len(rows) - _MOST_SAID
    said += [f"and {rest} more"] if rest > 0 else []
    return f"{label}: {'; '.join(said)}"

"""The plane of alignment and uniformity, with the lowest uniformity there can be."""

from collections.abc import Sequence
from typing import NamedTuple

from rl_jax.report import axes, charts, svg
from rl_jax.report.axes import Axis
from rl_jax.report.intervals import known
from rl_jax.report.markup import Markup, number, tag
from rl_jax.report.sections import Interval
from rl_jax.report.svg import Box
from rl_jax.report.words import told


class Point(NamedTuple):
    """A representation's place.

    Attributes:
      name: what is said of it.
      alignment, uniformity: where it lies.
      colour: class of the style sheet.
      shape: one of `charts.SHAPES`, for a point without its name beside it.
    """

    name: str
    alignment: Interval
    uniformity: Interval
    colour: str
    shape: int | None = None


def plane(points: Sequence[Point], *, limits: Sequence[float]) -> Markup:
    """Representations by alignment (across) and uniformity (up).

    Args:
      points: with both values, at least one.
      limits: lowest possible uniformities, one for each number of dimensions.
    """
    x_axis = axes.linear([0.0, *known(p.alignment for p in points)])
    heights = known(p.uniformity for p in points)
    y_axis = axes.linear([0.0, *heights, *limits], count=5)
    box = Box(360, 262, left=44, right=346, top=24, bottom=224)
    titles = ("alignment: mean d² of positives", "uniformity")
    drawn = [svg.frame(box, x_axis, y_axis, *titles)]
    for limit in limits:
        drawn.append(svg.level(box, y_axis, limit, f"lowest: {number(limit)}"))
    placed, said = [], []
    for point in points:
        across, up = point.alignment, point.uniformity
        title = f"{point.name}: alignment {told(across)}, uniformity {told(up)}"
        said.append(title)
        if across.value is None or up.value is None:
            continue
        x, y = svg.place(box, x_axis, y_axis, across.value, up.value)
        drawn.append(_cross(box, x_axis, y_axis, point, title))
        if point.shape is not None:
            shape = {
                "d": f"M0 0{charts.SHAPES[point.shape % len(charts.SHAPES)]}",
                "transform": f"translate({x:.1f} {y:.1f}) scale(1.5)",
            }
            kind = f"mark {point.colour}"
            drawn.append(tag("path", tag("title", title), class_=kind, **shape))
            continue
        drawn.append(svg.dot(x, y, point.colour, title, radius=4))
        ends = (v for v in across if v is not None)
        reach = [axes.position(x_axis, v, box.left, box.right) for v in ends]
        placed.append((min(x - 4, *reach), max(x + 4, *reach), y, point))
    drawn.append(_names(box, placed))
    label = "alignment and uniformity, lower is better in both: "
    return svg.figure(box, label + "; ".join(said), drawn)


def _cross(box: Box, x_axis: Axis, y_axis: Axis, point: Point, title: str):
    out, kind = [], f"bar {point.colour}"
    x, left, right = point.alignment
    y, low, high = point.uniformity
    if left is not None and right is not None:
        ends = [svg.place(box, x_axis, y_axis, end, y) for end in (left, right)]
        out.append(svg.path(ends, kind, title))
    if low is not None and high is not None:
        ends = [svg.place(box, x_axis, y_axis, x, end) for end in (low, high)]
        out.append(svg.path(ends, kind, title))
    return out


def _names(box: Box, placed) -> list[Markup]:
    """Names beside the points, on the side where there is room, none over another."""
    out, taken = [], []
    for left, right, y, point in placed:
        name = charts.shorten(point.name, 20)
        width = 7.0 * len(name)
        before = (left + right) / 2 > (box.left + box.right) / 2
        start = left - 6 if before else right + 6
        middle = start + (-width if before else width) / 2
        at = charts.free(taken, middle, y, width, low=box.top + 6, high=box.bottom - 4)
        taken.append((middle, at, width))
        lead = [(start + (3 if before else -3), y), (start, at)]
        out.append(svg.path(lead, "lead", "") if abs(at - y) > 3 else None)
        kind, anchor = f"name over {point.colour}", "end" if before else "start"
        out.append(svg.text(start, at + 4, name, class_=kind, text_anchor=anchor))
    return out

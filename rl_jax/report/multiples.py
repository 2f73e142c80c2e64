"""Many small charts with the same axes, which flow into the width there is."""

from collections.abc import Sequence

from rl_jax.report import axes, svg
from rl_jax.report.axes import Axis
from rl_jax.report.charts import Curve
from rl_jax.report.markup import Markup, percent, tag
from rl_jax.report.svg import Box

_BOX = Box(120, 76, left=20, right=116, top=6, bottom=62)
_SMALL = "font-size:8.5px"


def multiples(
    families: Sequence[tuple[str, Sequence[tuple[str, Sequence[Curve]]]]],
    *,
    places: Sequence[str],
) -> Markup:
    """A chart of shares for each name, under the heading of its family.

    Args:
      families: heading, and name and curves of each chart; x counts the places from 0.
      places: what stands under the axis, at least one.
    """
    shares = [
        y
        for _, charts in families
        for _, curves in charts
        for curve in curves
        for y in curve.y
        if y is not None
    ]
    y_axis = axes.linear([0.0, *shares], count=2, unit="%")
    out = []
    for family, charts in families:
        out.append(tag("div.over", family))
        small = [_chart(name, curves, y_axis, places) for name, curves in charts]
        out.append(tag("div.minis", small))
    return tag("div", out)


def _chart(name: str, curves: Sequence[Curve], y_axis: Axis, places: Sequence[str]):
    x_axis = Axis(-0.2, max(len(places) - 0.8, 0.2), (), ())
    drawn = []
    for tick, text in zip(y_axis.ticks, y_axis.labels, strict=True):
        y = axes.position(y_axis, tick, _BOX.bottom, _BOX.top)
        drawn.append(svg.path([(_BOX.left, y), (_BOX.right, y)], "grid", ""))
        label = {"text_anchor": "end", "style": _SMALL}
        drawn.append(svg.text(_BOX.left - 3, y + 3, text.rstrip("%"), **label))
    for i, text in enumerate(places):
        x = axes.position(x_axis, i, _BOX.left, _BOX.right)
        label = {"text_anchor": "middle", "style": _SMALL}
        drawn.append(svg.text(x, _BOX.bottom + 11, text, **label))
    said = []
    for curve in curves:
        for segment in axes.segments(curve.x, curve.y):
            points = [svg.place(_BOX, x_axis, y_axis, *point) for point in segment]
            if len(points) == 1:
                drawn.append(svg.dot(*points[0], curve.colour, curve.name, radius=2))
            else:
                line = f"line {curve.colour}"
                drawn.append(svg.path(points, line, curve.name))
        said.append(f"{curve.name} {', '.join(map(percent, curve.y))} %")
    picture = svg.figure(_BOX, f"{name}: {'; '.join(said)}", drawn)
    return tag("figure", tag("figcaption", name, title=name), picture)

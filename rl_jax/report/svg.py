"""What every figure is drawn with: paths, dots, texts, the frame of two axes."""

from collections.abc import Sequence
from typing import NamedTuple

from rl_jax.report import axes
from rl_jax.report.axes import Axis
from rl_jax.report.markup import Markup, tag


class Box(NamedTuple):
    """Where the data lie inside a figure of `width` × `height`."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


def place(
    box: Box, x_axis: Axis, y_axis: Axis, x: float, y: float
) -> tuple[float, float]:
    """Where a point of the data is drawn."""
    return (
        axes.position(x_axis, x, box.left, box.right),
        axes.position(y_axis, y, box.bottom, box.top),
    )


def frame(
    box: Box, x_axis: Axis, y_axis: Axis, x_title: str, y_title: str
) -> list[Markup]:
    """Grid lines at the ticks of y, ticks below, and what both axes count."""
    out = []
    for tick, label in zip(y_axis.ticks, y_axis.labels, strict=True):
        y = axes.position(y_axis, tick, box.bottom, box.top)
        out.append(path([(box.left, y), (box.right, y)], "grid", ""))
        out.append(text(box.left - 5, y + 4, label, text_anchor="end"))
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        x = axes.position(x_axis, tick, box.left, box.right)
        out.append(path([(x, box.bottom), (x, box.bottom + 4)], "tick", ""))
        out.append(text(x, box.bottom + 16, label, text_anchor="middle"))
    base = [(box.left, box.bottom), (box.right, box.bottom)]
    out.append(path(base, "tick", ""))
    middle = (box.left + box.right) / 2
    out.append(text(middle, box.bottom + 30, x_title, text_anchor="middle"))
    out.append(text(2, 12, y_title))
    return out


def level(box: Box, y_axis: Axis, value: float, name: str) -> list[Markup]:
    """A dashed line across at a value of y, with its name over its right end."""
    y = axes.position(y_axis, value, box.bottom, box.top)
    line = path([(box.left, y), (box.right, y)], "reference", "")
    return [line, text(box.right, y - 4, name, text_anchor="end")]


def path(points: Sequence[tuple[float, float]], classes: str, title: str) -> Markup:
    """Straight lines through points; the title is what a pointer over it shows."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", tag("title", title) if title else None, class_=classes, d=d)


def dot(x: float, y: float, colour: str, title: str, *, radius: float = 3) -> Markup:
    """A filled circle."""
    told = tag("title", title)
    return tag("circle", told, class_=f"dot {colour}", cx=x, cy=y, r=radius)


def text(x: float, y: float, content: str | Markup, **attributes) -> Markup:
    """Text whose base line starts at a place, or is centred there by `text_anchor`."""
    return tag("text", content, x=x, y=y, **attributes)


def figure(box: Box, label: str, content, *, wide: bool | None = None) -> Markup:
    """The whole picture, and itself in a sentence for those who cannot see it.

    Args:
      box: gives the size.
      label: the sentence.
      content: what is drawn.
      wide: it fills a card that is wide on a desk, so its text may be small; by default
        those higher than 200 units.
    """
    size = f"0 0 {box.width:g} {box.height:g}"
    wide = box.height > 200 if wide is None else wide
    kind = "svg.chart.wide" if wide else "svg.chart"
    return tag(kind, content, viewBox=size, role="img", aria_label=label)

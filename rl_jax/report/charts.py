"""Figures as inline SVG that needs no script and follows light and dark mode.

Every figure is about 360 units wide, so that its 11-unit text stays readable on a
phone. Colours are classes of the page's style sheet (`c0` ... `c7`, `base`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from rl_jax.report import axes, svg
from rl_jax.report.axes import Axis
from rl_jax.report.markup import Markup, tag
from rl_jax.report.svg import Box

COLOURS = 8  # Okabe & Ito's; a class of the style sheet each
SHAPES = (
    "m-2.7 0a2.7 2.7 0 1 0 5.4 0a2.7 2.7 0 1 0-5.4 0z",
    "m-2.4-2.4h4.8v4.8h-4.8z",
    "m0-3.1l3.1 5.4h-6.2z",
    "m0-3.4l3 3.4l-3 3.4l-3-3.4z",
    "m-3 0h6m-3-3v6",
)
_LINE = 12.5  # distance of lines of text


class Curve(NamedTuple):
    """A line over x; y None where there is no value.

    Attributes:
      name: for the label and the reader's tool tip.
      x, y: of equal length.
      colour: class of the style sheet.
      spread: half lengths of error bars, None for a point without.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str
    spread: Sequence[float | None] = ()


def lines(
    curves: Sequence[Curve],
    *,
    label: str,
    x_axis: Axis,
    y_axis: Axis,
    x_title: str,
    y_title: str,
    references: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Curves over a common x axis, each with at most 400 points.

    A longer one is drawn faint, with its trend over it.

    Args:
      curves: what to draw; gaps where y is None.
      label: the figure in a sentence, for those who cannot see it.
      x_axis, y_axis: hold all values.
      x_title, y_title: with units.
      references: horizontal lines, as (y, text).
    """
    box = Box(360, 200, left=44, right=352, top=24, bottom=166)
    drawn = []

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return svg.place(box, x_axis, y_axis, *point)

    for curve in curves:
        shown = axes.curve(curve.x, curve.y)
        trend = axes.trend(curve.x, curve.y) if len(curve.x) > 400 else []
        for segment in shown:
            points = [place(p) for p in segment]
            if len(points) == 1:
                drawn.append(svg.dot(*points[0], curve.colour, curve.name, radius=2))
            else:
                kind = "faint line" if trend else "line"
                drawn.append(svg.path(points, f"{kind} {curve.colour}", curve.name))
        if trend:
            smooth = [place(p) for p in trend]
            drawn.append(svg.path(smooth, f"line {curve.colour}", curve.name))
        if shown:
            end = place(shown[-1][-1])
            drawn.append(svg.dot(*end, curve.colour, curve.name))
    marks = [svg.level(box, y_axis, *r) for r in references]
    frame = svg.frame(box, x_axis, y_axis, x_title, y_title)
    return svg.figure(box, label, [frame, marks, drawn])


def points(
    curves: Sequence[Curve],
    *,
    label: str,
    x_names: Sequence[str],
    y_axis: Axis,
    x_title: str,
    y_title: str,
) -> Markup:
    """Values with error bars at named places, joined, with their names at the right.

    Args:
      curves: x counts the places from 0.
      label: the figure in a sentence.
      x_names: of the places.
      y_axis: holds all values and error bars.
      x_title, y_title: with units.
    """
    box = Box(380, 270, left=40, right=286, top=24, bottom=234)
    places = tuple(float(i) for i in range(len(x_names)))
    x_axis = Axis(-0.35, len(x_names) - 0.65, places, tuple(x_names))
    drawn, ends = [], []
    for i, curve in enumerate(curves):
        # Side by side, so that error bars do not hide each other.
        shift = 5.0 * (i - (len(curves) - 1) / 2)
        spread = curve.spread or [None] * len(curve.x)
        for segment in axes.segments(curve.x, curve.y):
            placed = [svg.place(box, x_axis, y_axis, *p) for p in segment]
            placed = [(x + shift, y) for x, y in placed]
            drawn.append(svg.path(placed, f"thin line {curve.colour}", curve.name))
            ends += [(placed[-1], curve)] if segment[-1][0] == places[-1] else []
        for x, y, half in zip(curve.x, curve.y, spread, strict=True):
            if y is None:
                continue
            across, at = svg.place(box, x_axis, y_axis, x, y)
            if half:
                down = svg.place(box, x_axis, y_axis, x, max(y - half, y_axis.low))[1]
                up = svg.place(box, x_axis, y_axis, x, min(y + half, y_axis.high))[1]
                bar = [(across + shift, down), (across + shift, up)]
                drawn.append(svg.path(bar, f"bar {curve.colour}", curve.name))
            told = f"{curve.name}, {x_names[int(x)]}: {100 * y:.1f} %"
            told += f" ± {100 * half:.1f}" if half else ""
            drawn.append(svg.dot(across + shift, at, curve.colour, told))
    heights = apart([y for (_, y), _ in ends], _LINE, box.top + 4, box.bottom)
    names = []
    for ((x, y), curve), height in zip(ends, heights, strict=True):
        names.append(svg.path([(x + 5, y), (box.right + 4, height)], "lead", ""))
        name, kind = shorten(curve.name, 15), f"name {curve.colour}"
        names.append(svg.text(box.right + 7, height + 4, name, class_=kind))
    frame = svg.frame(box, x_axis, y_axis, x_title, y_title)
    return svg.figure(box, label, [frame, names, drawn])


def scatter(
    groups: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    label: str,
    styles: Sequence[tuple[str, int]],
    named: bool,
) -> Markup:
    """Points of groups in the plane, each group with its name at its median.

    Args:
      groups: name and points, at least one point each.
      label: the figure in a sentence.
      styles: colour class and shape of each group.
      named: write the names.
    """
    box = Box(360, 360, left=8, right=352, top=8, bottom=352)
    xs = [x for _, group in groups for x, _ in group]
    ys = [y for _, group in groups for _, y in group]
    # One unit is as long down as across: distances are what the map is about.
    half = 0.53 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    across, up = (Axis(m - half, m + half, (), ()) for m in middle)
    drawn, names, taken = [], [], []
    for (name, group), (colour, shape) in zip(groups, styles, strict=True):
        placed = [svg.place(box, across, up, *p) for p in group]
        path = "".join(f"M{x:.1f} {y:.1f}{SHAPES[shape]}" for x, y in placed)
        told = tag("title", f"{name}: {len(group)} images")
        drawn.append(tag("path", told, class_=f"mark {colour}", d=path))
        if named:
            text = shorten(name, 16)
            width = 7.5 * len(text)
            x, y = (sorted(v)[len(v) // 2] for v in zip(*placed, strict=True))
            x = min(max(x, box.left + width / 2), box.right - width / 2)
            y = free(taken, x, y, width, low=14.0, high=346.0)
            taken.append((x, y, width))
            names.append(svg.text(x, y + 4, text, class_="centre"))
    frame = tag(
        "rect.frame", x=0.5, y=0.5, width=box.width - 1, height=box.height - 1, rx=6
    )
    return svg.figure(box, label, [frame, drawn, names])


def swatch(colour: str, shape: int | None = None) -> Markup:
    """The sign of a curve or of a group, for a legend."""
    if shape is None:
        inside, size = tag("path", class_=f"line {colour}", d="M1 7H13"), "0 0 14 14"
    else:
        inside = tag("path", class_=f"mark {colour}", d=f"M4 4{SHAPES[shape]}")
        size = "0 0 8 8"
    return tag("svg.swatch", inside, viewBox=size, aria_hidden="true")


def apart(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Values moved as little as needed to be `gap` apart, in their order.

    They stay in [low, high] while there is room.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    moved = list(values)
    for before, i in zip([None, *order], order, strict=False):
        least = low if before is None else moved[before] + gap
        moved[i] = max(moved[i], least)
    for after, i in zip([None, *reversed(order)], reversed(order), strict=False):
        most = high if after is None else moved[after] - gap
        moved[i] = min(moved[i], most)
    return moved


def shorten(text: str, most: int) -> str:
    """Text of at most `most` characters, its middle left out."""
    if len(text) <= most:
        return text
    return f"{text[: (most + 1) // 2 - 1]}…{text[len(text) - most // 2 :]}"


def free(
    taken: Sequence[tuple[float, float, float]],
    x: float,
    y: float,
    width: float,
    *,
    low: float,
    high: float,
) -> float:
    """The height in [low, high] nearest to y where a name covers none of those taken.

    Args:
      taken: middle, height and width of the names that are there.
      x, y, width: of the name.
      low, high: where it must stay, whatever it covers.
    """
    for k in range(2 * len(taken) + 1):
        at = y + (k + 1) // 2 * (_LINE if k % 2 else -_LINE)
        if not any(
            abs(at - other_y) < _LINE and abs(x - other_x) < (width + other_width) / 2
            for other_x, other_y, other_width in taken
        ):
            return min(max(at, low), high)
    return y

"""Horizontal bars in groups, with marks of what they are compared with."""

from collections.abc import Sequence
from typing import NamedTuple

from rl_jax.report import axes, charts, svg
from rl_jax.report.markup import Markup, percent, tag
from rl_jax.report.svg import Box


class Bar(NamedTuple):
    """A share; one of a baseline is a stroke across the bars of its group."""

    series: str
    value: float | None
    colour: str
    baseline: bool = False


class Group(NamedTuple):
    """Bars under a name; without bars the name is a heading."""

    name: str
    bars: Sequence[Bar]


def bars(groups: Sequence[Group], *, label: str, x_title: str) -> Markup:
    """Shares from 0, a group a row.

    Args:
      groups: from above to below.
      label: the figure in a few words; the values are added.
      x_title: what the bars count.
    """
    count = max(len(_solid(group)) for group in groups)
    thick = 9.0 if count < 2 else max(4.0, 12.0 / count)
    row = max(15.0, count * thick + 5)
    heights = [row if group.bars else 19.0 for group in groups]
    values = [b.value for g in groups for b in g.bars if b.value is not None]
    axis = axes.linear([0.0, *values], count=4, unit="%")
    box = Box(360, sum(heights) + 46, 116, 344, 6, sum(heights) + 10)
    drawn, said, top = [], [], box.top
    for tick, text in zip(axis.ticks, axis.labels, strict=True):
        x = axes.position(axis, tick, box.left, box.right)
        drawn.append(svg.path([(x, box.top), (x, box.bottom)], "grid", ""))
        drawn.append(svg.text(x, box.bottom + 14, text, text_anchor="middle"))
    for group, height in zip(groups, heights, strict=True):
        if not group.bars:
            name = charts.shorten(group.name, 40)
            drawn.append(svg.text(4, top + 14, name, class_="name"))
        else:
            name = charts.shorten(group.name, 16)
            middle = top + height / 2 + 4
            drawn.append(svg.text(box.left - 6, middle, name, text_anchor="end"))
            drawn.append(_bars(box, axis, group, top, height, thick))
            told = ", ".join(f"{b.series} {percent(b.value)} %" for b in group.bars)
            said.append(f"{group.name} {told}")
        top += height
    middle = (box.left + box.right) / 2
    drawn.append(svg.text(middle, box.bottom + 30, x_title, text_anchor="middle"))
    return svg.figure(box, f"{label}: {'; '.join(said)}", drawn, wide=True)


def _solid(group: Group) -> list[Bar]:
    return [bar for bar in group.bars if not bar.baseline]


def _bars(box: Box, axis, group: Group, top: float, height: float, thick: float):
    out = []
    solid = _solid(group)
    start = top + (height - thick * len(solid)) / 2
    for bar in sorted(group.bars, key=lambda bar: bar.baseline):
        if bar.value is None:
            continue
        x = axes.position(axis, bar.value, box.left, box.right)
        title = f"{group.name}, {bar.series}: {percent(bar.value)} %"
        if bar.baseline:
            ends = [(x, top + 1), (x, top + height - 1)]
            out.append(svg.path(ends, "halo", ""))
            out.append(svg.path(ends, f"stroke {bar.colour}", title))
            continue
        y = start + solid.index(bar) * thick
        left, right = sorted((axes.position(axis, 0.0, box.left, box.right), x))
        size = {"x": left, "y": y, "width": right - left, "height": thick - 0.6}
        out.append(tag(f"rect.block.{bar.colour}", tag("title", title), **size))
    return out

"""How often values occur: shares in bins, several groups over one axis."""

import statistics
from collections.abc import Sequence

from rl_jax.report import axes, svg
from rl_jax.report.axes import Axis
from rl_jax.report.markup import Markup, percent, tag
from rl_jax.report.svg import Box

Groups = Sequence[tuple[str, Sequence[float | None], str]]


def histogram(
    edges: Sequence[float],
    groups: Groups,
    *,
    label: str,
    x_title: str,
    references: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Outlines of the shares of each group's values in each bin.

    Args:
      edges: rising [bins + 1].
      groups: name, counts [bins] ≥ 0, and colour.
      label: the figure in a few words; where most of each group lies is added.
      x_title: what is counted.
      references: vertical lines inside the edges, as (x, text).
    """
    shares = [[max(c or 0.0, 0.0) for c in counts] for _, counts, _ in groups]
    shares = [[c / (sum(each) or 1.0) for c in each] for each in shares]
    tops = [max(each) for each in shares]
    box = Box(360, 202, left=44, right=350, top=36 if references else 24, bottom=162)
    inner = axes.linear([edges[0], edges[-1]], count=5)
    pairs = zip(inner.ticks, inner.labels, strict=True)
    kept = [(t, text) for t, text in pairs if edges[0] <= t <= edges[-1]]
    ticks, names = (tuple(each[i] for each in kept) for i in (0, 1))
    x_axis = Axis(edges[0], edges[-1], ticks, names)
    y_axis = axes.linear([0.0, *tops], count=3, unit="%")
    drawn, said = [svg.frame(box, x_axis, y_axis, x_title, "share in bin")], []
    for (name, _, colour), each in zip(groups, shares, strict=True):
        corners = [(edges[0], 0.0)]
        for i, share in enumerate(each):
            corners += [(edges[i], share), (edges[i + 1], share)]
        corners.append((edges[-1], 0.0))
        points = [svg.place(box, x_axis, y_axis, *corner) for corner in corners]
        d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawn.append(tag("path", tag("title", name), class_=f"area {colour}", d=d))
        top = max(range(len(each)), key=each.__getitem__)
        middle = statistics.fmean(edges[top : top + 2])
        said.append(f"{name} most often near {middle:.2g} ({percent(each[top])} %)")
    for i, (value, text) in enumerate(references):
        x = axes.position(x_axis, value, box.left, box.right)
        ends = [(x, box.top - 6), (x, box.bottom)]
        drawn.append(svg.path(ends, "reference", ""))
        half = 3.3 * len(text)
        at = min(max(x, box.left + 40 + half), 356 - half)
        drawn.append(svg.text(at, 28 - 13 * (i % 2), text, text_anchor="middle"))
    return svg.figure(box, f"{label}: {'; '.join(said)}", drawn, wide=True)

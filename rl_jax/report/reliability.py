"""The reliability diagram: how often the classifier is right when it is how sure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rl_jax.report import axes, svg
from rl_jax.report.axes import Axis
from rl_jax.report.markup import Markup, percent, tag
from rl_jax.report.svg import Box

_STRIP = 30.0


class Diagram(NamedTuple):
    """`bins`: lists "edges" [bins + 1], "confidence", "accuracy" and "count" [bins]."""

    name: str
    bins: dict[str, Any]
    colour: str


def reliability(diagrams: Sequence[Diagram]) -> Markup:
    """Accuracy against confidence over the diagonal, and under it each bin's images."""
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    bare = Axis(0.0, 1.0, ticks, ("", "", "", "", ""))
    named = bare._replace(labels=("0", "25%", "50%", "75%", "100%"))
    box = Box(360, 300, left=46, right=346, top=24, bottom=224)
    height = box.bottom + 8 + _STRIP + 30
    box = box._replace(height=height)
    strip = box._replace(top=box.bottom + 8, bottom=box.bottom + 8 + _STRIP)
    even = [svg.place(box, bare, bare, v, v) for v in (0.0, 1.0)]
    drawn = [
        svg.frame(box, bare, named, "", "share right"),
        svg.path(even, "reference", "as sure as right"),
        svg.text(2, strip.bottom, "images"),
    ]
    said = []
    for i, each in enumerate(diagrams):
        pairs = zip(
            *(each.bins[key] for key in ("confidence", "accuracy", "count")),
            strict=True,
        )
        bins = [(c, a, n) for c, a, n in pairs if c is not None and a is not None]
        bins = [(min(max(c, 0), 1), min(max(a, 0), 1), n or 0) for c, a, n in bins]
        points = [svg.place(box, bare, bare, c, a) for c, a, _ in bins]
        if len(points) > 1:
            line = f"thin line {each.colour}"
            drawn.append(svg.path(points, line, each.name))
        for point, (c, a, n) in zip(points, bins, strict=True):
            title = f"{each.name}: {n:,.0f} images, sure to {percent(c)} %, "
            title += f"right in {percent(a)} %"
            drawn.append(svg.dot(*point, each.colour, title))
        drawn.append(_counts(strip, each, i, len(diagrams)))
        told = ", ".join(
            f"{percent(c)} % sure {percent(a)} % right" for c, a, _ in bins
        )
        said.append(f"{each.name} {told}")
    for tick, text in zip(ticks, named.labels, strict=True):
        x = axes.position(bare, tick, box.left, box.right)
        drawn.append(svg.text(x, strip.bottom + 14, text, text_anchor="middle"))
    middle = (box.left + box.right) / 2
    title = "largest probability"
    drawn.append(svg.text(middle, strip.bottom + 28, title, text_anchor="middle"))
    return svg.figure(box, f"reliability diagram: {'; '.join(said)}", drawn)


def _counts(strip: Box, each: Diagram, place: int, of: int) -> list[Markup]:
    """A bar a bin, its height the share of the fullest bin."""
    counts = [max(n or 0.0, 0.0) for n in each.bins["count"]]
    edges, most = each.bins["edges"], max([1.0, *counts])
    out = []
    for i, count in enumerate(counts):
        axis = Axis(0.0, 1.0, (), ())
        ends = (min(max(e, 0.0), 1.0) for e in edges[i : i + 2])
        low, high = (axes.position(axis, e, strip.left, strip.right) for e in ends)
        width = max((high - low - 1) / of, 0.5)
        tall = count / most * (strip.bottom - strip.top)
        out.append(
            tag(
                f"rect.block.{each.colour}",
                tag("title", f"{each.name}: {count:,.0f} images"),
                x=low + 0.5 + place * width,
                y=strip.bottom - tall,
                width=width,
                height=tall,
            )
        )
    base = [(strip.left, strip.bottom), (strip.right, strip.bottom)]
    return [*out, svg.path(base, "tick", "")]

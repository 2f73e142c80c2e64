"""A matrix as a map: one colour above zero, another below, stronger when larger."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from rl_jax.report import charts, svg
from rl_jax.report.markup import Markup, number, tag
from rl_jax.report.svg import Box

MOST_NAMED = 16
MOST_CELLS = 128
_LETTERS = 14
_STRONGEST = 0.62  # text over a cell stays readable
_HUES = {"plus": (0, 114, 178), "minus": (213, 94, 0)}

Matrix = Sequence[Sequence[float | None]]


def heat_map(
    matrix: Matrix, names: Sequence[str], *, label: str, full: float = 1.0
) -> Markup:
    """A square matrix, the first row above.

    Up to 16 rows have names, their cells a tool tip and, while there is room, the value
    in them; more are a picture, of at most 128 rows evenly chosen.

    Args:
      matrix: [n][n], n ≥ 1; None leaves a cell empty.
      names: of the rows, n.
      label: the figure in a sentence.
      full: size of a value that has the strongest colour, > 0.
    """
    count = len(names)
    if count > MOST_NAMED:
        return _picture(matrix, label, full)
    longest = max(len(charts.shorten(name, _LETTERS)) for name in names)
    left = 12 + 6.4 * longest
    side = min((356 - left) / count, 46.0)
    upright = 6.4 * longest < side - 2
    top = 18.0 if upright else left
    right, bottom = left + count * side, top + count * side
    box = Box(360, bottom + 34, left, right, top, bottom)
    drawn = []
    for i, (name, row) in enumerate(zip(names, matrix, strict=True)):
        short = charts.shorten(name, _LETTERS)
        at = (i + 0.5) * side
        drawn.append(svg.text(left - 6, top + at + 4, short, text_anchor="end"))
        if upright:
            drawn.append(svg.text(left + at, top - 6, short, text_anchor="middle"))
        else:
            turn = f"rotate(-90 {left + at + 4:.1f} {top - 6:.1f})"
            drawn.append(svg.text(left + at + 4, top - 6, short, transform=turn))
        for k, value in enumerate(row):
            x, y = left + k * side, top + i * side
            drawn.append(_cell(x, y, side, value, full, f"{name}, {names[k]}"))
    return svg.figure(box, label, [drawn, _scale(box, full)])


def _cell(x: float, y: float, side: float, value, full: float, what: str):
    if value is None:
        return None
    title = tag("title", f"{what}: {number(value, 2)}")
    strength = _strength(value, full)
    kind = "plus" if value >= 0 else "minus"
    rect = tag(
        f"rect.{kind}",
        title,
        x=x,
        y=y,
        width=side - 0.8,
        height=side - 0.8,
        fill_opacity=strength,
    )
    if side < 21:
        return rect
    # Two decimals without the 0 before them: the cells are small.
    said = f"{value:.2f}".replace("-0.", "−.").replace("-", "−")
    said = said.removeprefix("0") if said != "0.00" else "0"
    said = "1" if said == "1.00" else said
    size = min(11.0, 0.4 * side)
    middle = x + side / 2, y + side / 2 + 0.36 * size
    inside = svg.text(*middle, said, class_="cell", style=f"font-size:{size:.1f}px")
    return [rect, inside]


def _strength(value: float, full: float) -> float:
    return _STRONGEST * min(1.0, abs(value) / full)


def _scale(box: Box, full: float) -> list[Markup]:
    """What the colours mean, under the map."""
    out, y = [], box.bottom + 8
    left, step, steps = box.left, 9.0, 11
    for i in range(steps):
        value = full * (2 * i / (steps - 1) - 1)
        kind = "plus" if value >= 0 else "minus"
        where = {"x": left + 26 + i * step, "y": y, "width": step, "height": 8.0}
        strength = _strength(value, full)
        out.append(tag(f"rect.{kind}", **where, fill_opacity=strength))
    low, high = (number(v, 2) for v in (-full, full))
    out.append(svg.text(left + 22, y + 8, low, text_anchor="end"))
    middle = left + 26 + steps * step / 2
    out.append(svg.text(middle, y + 20, "0", text_anchor="middle"))
    return [*out, svg.text(left + 30 + steps * step, y + 8, high)]


def _picture(matrix: Matrix, label: str, full: float) -> Markup:
    """A pixel a cell, see-through where the value is small: it suits light and dark."""
    from PIL import Image

    count = len(matrix)
    every = -(-count // MOST_CELLS)
    chosen = range(0, count, every)
    values = np.array([[matrix[i][k] for k in chosen] for i in chosen], np.float64)
    strength = _STRONGEST * np.clip(np.abs(np.nan_to_num(values)) / full, 0, 1)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(
        (values >= 0)[..., None], _HUES["plus"], _HUES["minus"]
    ).astype(np.uint8)
    pixels[..., 3] = np.rint(255 * strength)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="png", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
    box = Box(360, 366, left=16, right=344, top=4, bottom=332)
    place = {"x": box.left, "y": box.top, "width": 328, "height": 328}
    picture = tag("image", href=source, preserveAspectRatio="none", **place)
    said = f"{label}; one row of {every} is shown" if every > 1 else label
    return svg.figure(box, said, [picture, _scale(box, full)])

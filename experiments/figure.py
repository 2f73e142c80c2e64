"""How figures look: one palette for every eye, and ink that follows the page's.

An SVG drawn here has no background, and its text, axes and grid take the colour of the
page around it, so one drawing is right on a light page and on a dark one. A file that
stands alone, as an image has no page around it, gets the grey that both can show.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

COLOURS = ("#2b83c6", "#d9660a", "#0d9a70", "#c2669c", "#b98a00", "#7a68c8", "#6f7a86")
"""Told apart with any colour vision, and readable on white and on near-black."""
FAINT = "#8b949e"
"""Reference lines."""

_PAGE = "currentColor"
_ALONE = COLOURS[-1]  # as far from white as from near-black
_INK = "#010203"
_SIZE = (7.6, 3.1)
_METADATA = ("Creator", "Date", "Format", "Type")
_STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "rl_jax",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": FAINT,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    # What is black unless it is told otherwise.
    "patch.edgecolor": _INK,
    "hatch.color": _INK,
    "boxplot.boxprops.color": _INK,
    "boxplot.capprops.color": _INK,
    "boxplot.whiskerprops.color": _INK,
    "boxplot.flierprops.markeredgecolor": _INK,
    "lines.linewidth": 1.7,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def svg(draw: Callable[[Any, Any], None], found: Any) -> str:
    """The figure of an outcome as an `<svg>` element, text kept as text."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure, found)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=dict.fromkeys(_METADATA))
    text = out.getvalue()
    text = _shortened(text[text.index("<svg") :].rstrip())
    return re.sub(_INK, _PAGE, text, flags=re.IGNORECASE)


def alone(svg: str) -> str:
    """The figure as a file of its own, in an ink for any background."""
    return f"{svg.replace(_PAGE, _ALONE)}\n"


def _shortened(text: str) -> str:
    """Coordinates to a hundredth of a point, which is less than can be seen."""
    return re.sub(
        r' (?:d|x|y)="[^"]*"',
        lambda found: re.sub(r"\s*(-?\d+\.\d+)", _two_decimals, found[0]),
        text,
    )


def _two_decimals(found: re.Match) -> str:
    return found[0].replace(found[1], f"{float(found[1]):.2f}")


def band(axes: Any, x: Any, values: Any, colour: str, label: str | None = None) -> None:
    """The mean of values [seeds, n] against x as a line, and their range around it."""
    axes.plot(x, values.mean(0), color=colour, label=label)
    low, high = values.min(0), values.max(0)
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def table(axes: Any, values: Any, colour: str) -> None:
    """A table of numbers in [0, 1], each cell coloured and written out."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    rgb = to_rgb(colour)
    shades = LinearSegmentedColormap.from_list("", [(*rgb, 0.0), (*rgb, 0.85)])
    axes.pcolormesh(values, cmap=shades, vmin=0, vmax=1, edgecolors="none")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column + 0.5, row + 0.5, f"{value:.2f}", ha="center", va="center")
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_aspect("equal")

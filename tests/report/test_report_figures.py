"""Each figure of the analysis lies inside its picture and shows its numbers."""

import base64
import io
import re

import numpy as np
import pytest
from pages import assert_inside
from PIL import Image

from rl_jax.report import axes
from rl_jax.report.bars import Bar, Group, bars
from rl_jax.report.charts import Curve
from rl_jax.report.heat import MOST_CELLS, heat_map
from rl_jax.report.histogram import histogram
from rl_jax.report.intervals import Mark, Row, intervals
from rl_jax.report.multiples import multiples
from rl_jax.report.plane import Point, plane
from rl_jax.report.reliability import Diagram, reliability
from rl_jax.report.sections import Interval
from rl_jax.report.tracks import Track, tracks

LONG = "a name that is much longer than a figure is wide " * 3


def row(name, *values):
    marks = [Mark(f"s{i}", v, f"c{i}") for i, v in enumerate(values)]
    return Row(name, marks)


@pytest.mark.parametrize("stacked", [False, True])
def test_intervals_hold_their_ends_and_their_names(stacked):
    rows = [
        row("one", Interval(0.5, 0.1, 0.9), Interval(-3.0)),
        row(LONG, Interval(2.0, 1.5, None), Interval(None)),
    ]
    svg = intervals(
        rows,
        label="values",
        x_title="value",
        references=((0.0, "zero"),),
        joined=True,
        stacked=stacked,
    )
    assert_inside(svg)
    assert svg.count('class="dot') == 3
    assert svg.count('class="bar') == 1  # with both ends only
    assert svg.count('class="thin line') == 1
    assert "one s0 0.500 (0.100 to 0.900), s1 −3.00" in svg
    assert ">zero</text>" in svg


def test_intervals_are_drawn_at_their_values():
    svg = intervals(
        [row("a", Interval(1.0, 0.0, 2.0))], label="v", x_title="x", unit=""
    )
    low, high = map(float, re.search(r"M([\d.]+) [\d.]+L([\d.]+)", bar(svg)).groups())
    middle = float(re.search(r'class="dot c0" cx="([\d.]+)"', svg).group(1))
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    assert high - low > 100


def bar(svg: str) -> str:
    return re.search(r'class="bar c0" d="([^"]*)"', svg).group(1)


def test_many_rows_are_told_but_not_all():
    rows = [row(f"r{i}", Interval(float(i))) for i in range(60)]
    svg = intervals(rows, label="many", x_title="x")
    assert "and 20 more" in svg
    assert_inside(svg)


def test_tracks_show_gaps_and_intervals():
    values = [Interval(0.1), Interval(None), Interval(0.5, 0.4, 0.6), Interval(0.7)]
    svg = tracks(
        [Track("a", [0, 1, 2, 3], values, "c0")],
        label="curve",
        x_axis=axes.linear([0, 3]),
        x_title="radius",
        y_title="accuracy",
        unit="%",
    )
    assert_inside(svg)
    assert svg.count('class="dot') == 3
    assert svg.count('class="line c0"') == 1
    assert "curve: a 10.0 %, –, 50.0 % (40.0 to 60.0), 70.0 %" in svg


def test_a_small_map_has_names_and_values():
    svg = heat_map([[1.0, -0.25], [None, 0.0]], ["h", LONG], label="a map", full=0.5)
    assert_inside(svg)
    strength = dict(re.findall(r'rect class="(\w+)"[^>]*?fill-opacity="([\d.]+)"', svg))
    assert set(strength) == {"plus", "minus"}
    cells = re.findall(r'class="cell"[^>]*>([^<]*)<', svg)
    assert cells == ["1", "−.25", "0"]
    opacities = re.findall(r'(?:</title></rect>)|fill-opacity="([\d.]+)"><title>', svg)
    first, second, third = (float(o) for o in opacities if o)
    assert first == 0.62  # stronger than full is no stronger
    assert second == pytest.approx(0.31)
    assert third == 0
    assert ">−0.50</text>" in svg


def test_a_map_of_sixteen_has_names_without_values_in_the_way():
    names = [f"layer {i}" for i in range(16)]
    svg = heat_map(np.eye(16).tolist(), names, label="a map")
    assert_inside(svg)
    assert svg.count('class="cell"') == 0
    assert svg.count(">layer 3</text>") == 2
    assert svg.count("<rect") == 16 * 16 + 11


@pytest.mark.parametrize("count", [17, 300])
def test_a_large_map_is_one_picture(count):
    matrix = (np.eye(count) - 0.5).tolist()
    matrix[1][0] = None
    svg = heat_map(matrix, [str(i) for i in range(count)], label="a map", full=0.5)
    assert len(svg) < 20_000
    png = base64.b64decode(re.search(r"base64,([^\"]*)\"", svg).group(1))
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    every = -(-count // MOST_CELLS)
    assert pixels.shape == (*2 * (-(-count // every),), 4)
    assert pixels[0, 0].tolist() == [0, 114, 178, 158]
    assert pixels[0, 1].tolist() == [213, 94, 0, 158]
    assert (pixels[1, 0, 3] == 0) == (every == 1)
    assert (f"one row of {every} is shown" in svg) == (every > 1)


def test_bars_start_at_zero_and_baselines_are_strokes():
    svg = bars(
        [
            Group("noise", []),
            Group("snow", [Bar("h", 0.8, "c0"), Bar("raw", 0.4, "base", True)]),
            Group("fog", [Bar("h", None, "c0"), Bar("raw", 0.2, "base", True)]),
        ],
        label="accuracy",
        x_title="mean",
    )
    assert_inside(svg)
    (width,) = re.findall(r'rect class="block c0"[^>]*? width="([\d.]+)"', svg)
    left = float(re.search(r'block c0" x="([\d.]+)"', svg).group(1))
    strokes = re.findall(r'class="stroke base" d="M([\d.]+)', svg)
    assert float(strokes[0]) - left == pytest.approx(float(width) / 2, abs=0.2)
    assert float(strokes[1]) - left == pytest.approx(float(width) / 4, abs=0.2)
    assert "accuracy: snow h 80.0 %, raw 40.0 %; fog h – %, raw 20.0 %" in svg


def test_a_histogram_shows_shares_of_each_group():
    svg = histogram(
        [0.0, 1.0, 2.0],
        [("few", [1, 3], "c0"), ("many", [400, None], "c1"), ("none", [0, 0], "c2")],
        label="values",
        x_title="value",
        references=[(0.0, "left end"), (2.0, "right end")],
    )
    assert_inside(svg)
    heights = [
        min(float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", d))
        for d in re.findall(r'class="area c\d" d="([^"]*)"', svg)
    ]
    assert heights[0] > heights[1]  # 75 % is lower than 100 %
    assert heights[2] == 162
    assert "few most often near 1.5 (75.0 %); many most often near 0.5" in svg


def test_the_reliability_diagram_leaves_empty_bins_out():
    bins = {
        "edges": [0.0, 0.5, 0.75, 1.0],
        "confidence": [None, 0.6, 0.9],
        "accuracy": [None, 0.6, 0.5],
        "count": [0, 10, 40],
    }
    svg = reliability([Diagram("a", bins, "c0"), Diagram("b", bins, "c1")])
    assert_inside(svg)
    dots = re.findall(r'dot c0" cx="([\d.]+)" cy="([\d.]+)"', svg)
    diagonal = re.search(r'reference" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)', svg)
    x0, y0, x1, y1 = map(float, diagonal.groups())

    def above(x, y):
        """How far a point is over the diagonal."""
        return y0 + (float(x) - x0) / (x1 - x0) * (y1 - y0) - float(y)

    assert above(*dots[0]) == pytest.approx(0, abs=0.1)
    assert above(*dots[1]) < -50
    heights = re.findall(r'block c0"[^>]*? height="([\d.]+)"', svg)
    assert [float(h) for h in heights] == [0, 7.5, 30]
    assert "b 60.0 % sure 60.0 % right" in svg


def test_the_plane_names_points_apart_and_its_limit():
    points = [
        Point(name, Interval(0.2, 0.19, 0.21), Interval(-1.5 - i / 1e3), f"c{i}")
        for i, name in enumerate(["h", "z", LONG])
    ]
    svg = plane(points, limits=[-3.9])
    assert_inside(svg)
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="name', svg)]
    assert np.diff(sorted(heights)).min() > 12
    assert "lowest: −3.90" in svg
    assert "z: alignment 0.200 (0.190 to 0.210), uniformity −1.50" in svg
    shapes = plane([p._replace(shape=i) for i, p in enumerate(points)], limits=[])
    assert "name over" not in shapes
    assert shapes.count('class="mark') == 3


def test_multiples_share_their_axes():
    def small(name, low):
        return name, [Curve("h", [0.0, 1.0], [0.9, low], "c0")]

    text = multiples(
        [("noise", [small("gaussian", 0.1), small("shot", 0.9)]), ("blur", [])],
        places=["1", "5"],
    )
    first, second = re.findall(r"<svg.*?</svg>", text)
    assert_inside(first)
    starts = [
        re.search(r'line c0" d="M([\d. ]+)L', s).group(1) for s in (first, second)
    ]
    assert starts[0] == starts[1]
    assert "gaussian: h 90.0, 10.0 %" in first
    assert "<figcaption title=" in text

"""Everything lies inside its figure, and each figure says in words what it shows."""

import re

import numpy as np
import pytest
from pages import assert_inside

from rl_jax.report import axes, charts
from rl_jax.report.charts import Curve


def line_chart(curves, **options):
    values = [y for curve in curves for y in curve.y if y is not None]
    return charts.lines(
        curves,
        label="loss over steps",
        x_axis=axes.linear([x for curve in curves for x in curve.x]),
        y_axis=axes.linear(values),
        x_title="step",
        y_title="loss",
        **options,
    )


def test_lines_lie_inside_and_name_their_axes():
    svg = line_chart([Curve("a", [0, 5, 9], [1.0, -3.0, 2.5], "c0")])
    assert_inside(svg)
    assert 'aria-label="loss over steps"' in svg
    assert ">step</text>" in svg
    assert ">loss</text>" in svg
    assert "<title>a</title>" in svg


def test_higher_values_are_drawn_higher():
    svg = line_chart([Curve("a", [0, 1], [0.0, 1.0], "c0")])
    (x0, y0), (x1, y1) = re.findall(
        r"([\d.]+) ([\d.]+)", re.search(r'line c0" d="([^"]*)"', svg).group(1)
    )
    assert float(x1) > float(x0)
    assert float(y1) < float(y0)


def test_gaps_break_lines_and_lone_points_are_dots():
    curve = Curve("a", [0, 1, 2, 3, 4, 5], [1.0, 2.0, None, 1.5, None, 2.0], "c1")
    svg = line_chart([curve])
    assert len(re.findall(r'class="line c1"', svg)) == 1
    assert len(re.findall(r'class="dot c1"', svg)) == 3  # two lone ones, the last
    assert "nan" not in svg.lower()


@pytest.mark.parametrize("gap", [None, 2, 1000])
def test_long_curves_are_thinned(gap):
    y = np.random.default_rng(0).normal(size=20_000).tolist()
    if gap:
        y[::gap] = [None] * len(y[::gap])
    svg = line_chart([Curve("a", range(20_000), y, "c0")])
    points = sum(
        d.count(" ") for d in re.findall(r'class="faint line c0" d="([^"]*)"', svg)
    )
    assert 200 <= points <= 400
    assert svg.count("<circle") <= 2


def test_a_long_noisy_curve_shows_its_trend():
    noise = np.random.default_rng(0).normal(size=4000)
    y = (np.linspace(0, 10, 4000) + noise).tolist()
    svg = line_chart([Curve("a", range(4000), y, "c0")])
    trend = re.search(r'class="line c0" d="([^"]*)"', svg).group(1)
    heights = [float(v) for v in re.findall(r"[ML][\d.]+ ([\d.]+)", trend)]
    assert 50 <= len(heights) <= 100
    assert np.diff(heights).max() < 3  # of 142 units; the noise spans 85
    assert 'class="line' not in line_chart([Curve("a", [], [], "c0")])
    assert "faint" not in line_chart([Curve("a", range(400), y[:400], "c0")])


def test_reference_line_is_drawn_at_its_value():
    curve = Curve("a", [0, 1], [0.0, 2.0], "c0")
    svg = line_chart([curve], references=((1.0, "spread"),))
    height = re.search(r'reference" d="M[\d.]+ ([\d.]+)L', svg).group(1)
    assert float(height) == pytest.approx((24 + 166) / 2)
    assert ">spread</text>" in svg


def test_points_have_error_bars_inside_and_names_apart():
    names = ["h", "z", "raw pixels", "untrained h"]
    curves = [
        Curve(n, [0.0, 1.0], [0.5, 0.98 + i / 1e3], "c0", [0.2, 0.1])
        for i, n in enumerate(names)
    ]
    svg = charts.points(
        curves,
        label="accuracy",
        x_names=["10", "all"],
        y_axis=axes.linear([0.3, 1.0], unit="%"),
        x_title="labels",
        y_title="accuracy",
    )
    assert_inside(svg)
    assert svg.count('class="bar c0"') == 8
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="name', svg)]
    assert len(heights) == 4
    assert np.diff(sorted(heights)).min() > 12


def test_scatter_has_equal_units_and_labels_at_medians():
    groups = [("zero", [(0.0, 0.0), (10.0, 0.0)]), ("one", [(0.0, 1.0)] * 3)]
    svg = charts.scatter(groups, label="map", styles=[("c0", 0), ("c1", 2)], named=True)
    assert_inside(svg)
    paths = re.findall(r'mark (c\d)" d="([^"]*)"', svg)
    at = {c: re.findall(r"M([\d.]+) ([\d.]+)", d) for c, d in paths}
    (x0, y0), (x1, _) = (map(float, p) for p in at["c0"])
    _, y2 = map(float, at["c1"][0])
    assert (x1 - x0) / 10 == pytest.approx(y0 - y2, abs=0.3)
    assert ">zero</text>" in svg
    assert "<title>one: 3 images</title>" in svg


def test_scatter_of_one_place_is_finite():
    svg = charts.scatter(
        [("a", [(3.0, 3.0)] * 2)], label="map", styles=[("c0", 0)], named=False
    )
    assert_inside(svg)


def test_apart_moves_little_and_keeps_order():
    assert charts.apart([10, 50], 12, 0, 100) == [10, 50]
    moved = charts.apart([50, 50.5, 51, 99], 12, 0, 100)
    assert moved == sorted(moved)
    assert np.diff(moved).min() >= 12
    packed = charts.apart([99, 99, 99], 12, 0, 100)
    assert max(packed) <= 100
    assert min(np.diff(sorted(packed))) >= 12


def test_shorten_keeps_both_ends():
    assert charts.shorten("abc", 3) == "abc"
    short = charts.shorten("simclr-temperature-0.07", 15)
    assert len(short) == 15
    assert short.startswith("simclr")
    assert short.endswith("0.07")

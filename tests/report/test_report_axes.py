"""Ticks are round and cover the data; thinned curves keep their peaks."""

import math

import numpy as np
import pytest

from rl_jax.report import axes


def is_round(step: float) -> bool:
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    return any(abs(mantissa - m) < 1e-6 for m in (1, 2, 5, 10))


@pytest.mark.parametrize(
    "values",
    [[0.0, 1.0], [-3.37, -1.12], [0.31, 0.33], [9_990, 123_456], [1e-7, 3e-7]],
)
def test_ticks_are_round_and_cover(values):
    axis = axes.linear(values)
    assert axis.low <= min(values)
    assert axis.high >= max(values)
    assert (axis.low, axis.high) == (axis.ticks[0], axis.ticks[-1])
    gaps = np.diff(axis.ticks)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9)
    assert is_round(gaps[0])
    assert 3 <= len(axis.ticks) <= 7
    assert len(set(axis.labels)) == len(axis.ticks)


@pytest.mark.parametrize("values", [[], [0.0], [7.0, 7.0], [-1e149, 1e149], [5e-324]])
def test_odd_ranges_still_give_an_axis(values):
    axis = axes.linear(values)
    assert math.isfinite(axis.low)
    assert axis.low < axis.high
    for value in values:
        assert 0 <= axes.position(axis, value, 0, 1) <= 1


def test_labels_have_the_decimals_they_need():
    assert axes.linear([0.0, 0.8]).labels == ("0.0", "0.2", "0.4", "0.6", "0.8")
    assert axes.linear([0, 20_000]).labels == ("0", "5k", "10k", "15k", "20k")
    assert axes.linear([0.0, 1.0], unit="%").labels[-1] == "100%"
    assert axes.linear([-4, 0]).labels[0] == "−4"


def test_logarithmic_axis_places_decades_evenly():
    axis = axes.logarithmic([0.3, 80])
    assert axis.ticks == (0.1, 1.0, 10.0, 100.0)
    at = [axes.position(axis, tick, 0, 300) for tick in axis.ticks]
    np.testing.assert_allclose(at, [0, 100, 200, 300], atol=1e-9)


def test_segments_break_where_there_is_no_value():
    found = axes.curve([1, 2, 3, 4, 5], [None, 1.0, None, None, 2.0])
    assert found == [[(2, 1.0)], [(5, 2.0)]]


def test_thinning_keeps_ends_order_peaks_and_dips():
    y = np.sin(np.arange(5000) / 50.0)
    y[1234], y[4321] = 9.0, -9.0
    points = list(zip(range(5000), y.tolist(), strict=True))
    thinned = axes.thin(points, most=400)
    assert len(thinned) <= 400
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    assert (1234, 9.0) in thinned
    assert (4321, -9.0) in thinned
    assert thinned == sorted(thinned)
    assert set(thinned) <= set(points)
    assert axes.thin(points[:400]) == points[:400]

"""The memory benchmark: its fit, its JSON, its table."""

import json

import numpy as np
import pytest

from profiling import memory, results


def test_fit_finds_a_line():
    x = np.array([2**k for k in range(19, 29)], float)
    a, b, deviation = memory.fit(x, 8 * x + 3e6)
    np.testing.assert_allclose([a, b], [8, 3e6], rtol=1e-9)
    assert deviation < 1e-12


def test_fit_weighs_relative_errors():
    """One point 10 % high cannot be fitted; the deviation says by how much at least."""
    x = np.array([1.0, 2.0, 4.0, 8.0])
    y = 5 * x
    y[1] *= 1.1
    a, b, deviation = memory.fit(x, y)
    assert deviation == pytest.approx(np.abs((a * x + b) / y - 1).max())
    assert 0.02 < deviation < 0.1


def test_fits_of_a_table():
    rows = [
        {"loss": "NT-Xent", "path": path, "devices": 1, "views": n, "temp_bytes": size}
        for n in (1024, 4096, 8192, 16384)
        for path, size in (("dense", 4 * n * n + 7), ("streaming", 9 * n * 128 + 1000))
    ]
    rows[0]["temp_bytes"] = 0  # below the sizes that are fitted
    dense, streaming = memory.fits(rows, dim=128)
    assert (dense["per"], streaming["per"]) == ("N²", "N·D")
    assert (dense["from"], dense["to"]) == (4096, 16384)
    np.testing.assert_allclose([dense["a"], dense["b"]], [4, 7], rtol=1e-6)
    np.testing.assert_allclose([streaming["a"], streaming["b"]], [9, 1000], rtol=1e-6)


@pytest.mark.slow
def test_result(tmp_path, capsys):
    memory.main(["--views", "64", "128", "--dim", "8", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "memory.json").read_text())
    assert {"date", "machine", "settings", "rows", "fits"} <= result.keys()
    assert result["machine"]["versions"]["jax"]
    found = {(r["loss"], r["path"], r["devices"]): r for r in result["rows"]}
    for devices in (1, 8):
        row = found["NT-Xent", "streaming", devices]
        assert row["temp_bytes"] > 0
        assert row["argument_bytes"] * devices == 2 * 64 * 8 * 4
    assert (tmp_path / "memory.png").stat().st_size > 5000
    assert (tmp_path / "memory.md").read_text() in capsys.readouterr().out


def test_views_must_divide(capsys):
    with pytest.raises(SystemExit) as stopped:
        memory.main(["--views", "100"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "multiples of 16, got [100]" in error


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "–"), (0, "0"), (0.01234, "0.0123"), (12.34, "12.3"), (1234.5, "1,230")],
)
def test_significant(number, text):
    assert results.significant(number) == text


@pytest.mark.parametrize(
    ("powers", "named"),
    [
        ((12, 14, 16), ["4k", "16k", "64k"]),
        ((12, 14, 16, 17, 18, 20, 21), ["4k", "16k", "64k", "", "256k", "", "2M"]),
    ],
)
def test_sizes_are_named_where_there_is_room(powers, named):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axis = figure.subplots().xaxis
    results.sizes_axis(axis, [2**k for k in powers])
    assert [label.get_text() for label in axis.get_ticklabels()] == named
    assert list(axis.get_ticklocs()) == [2**k for k in powers]


def test_size_names():
    assert [results.size_name(n) for n in (512, 2048, 2**21)] == ["512", "2k", "2M"]

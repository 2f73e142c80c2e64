"""The evaluation benchmark: contenders agree, passes are counted. No timing."""

import json

import numpy as np
import pytest

from profiling import evaluate

TINY = (
    evaluate.Task("knn", {"bank": 300, "queries": 50, "dim": 16, "k": 5}, 2.0),
    evaluate.Task("probe", {"n": 100, "dim": 8, "strengths": 3, "draws": 2}, None),
    evaluate.Task("cka", {"layers": 3, "n": 60, "dim": 4}, None),
)


@pytest.mark.slow
def test_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "QUICK", TINY)
    evaluate.main(["--quick", "--rounds", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "evaluate.json").read_text())
    rows = result["rows"]
    assert [(r["task"]["name"], r["contender"]) for r in rows] == [
        ("knn", "rl_jax"),
        ("knn", "scikit-learn"),
        ("probe", "rl_jax"),
        ("probe", "scikit-learn"),
        ("cka", "rl_jax"),
        ("cka", "rl_jax, pair by pair"),
    ]
    for row in rows:
        assert row["error"] is None
        assert len(row["seconds"]) == 1
    assert rows[0]["temp_bytes"] > 0
    # Three layers once; nine pairs of two layers are six times as much.
    assert rows[4]["facts"].startswith("1 and 6 passes")
    table = (tmp_path / "evaluate.md").read_text()
    assert table in capsys.readouterr().out
    assert "knn: bank 300, queries 50, dim 16, k 5" in table
    assert (tmp_path / "evaluate.png").stat().st_size > 5000


def test_what_disagrees_is_not_timed(monkeypatch):
    def wrong(**sizes):
        entries = {"rl_jax": evaluate.Entry(lambda: 1), "x": evaluate.Entry(lambda: 2)}
        return entries, lambda a, b: ("", None if a == b else f"{a} is not {b}")

    monkeypatch.setitem(evaluate.MEASURES, "knn", wrong)
    rows = evaluate.measured(TINY[0], rounds=1, seconds=1)
    assert [r["error"] for r in rows] == ["1 is not 2"] * 2
    assert all(not r["seconds"] for r in rows)


def test_objectives_and_classes():
    x, labels = evaluate.clusters(60, 4, classes=3, seed=0, standard=True)
    np.testing.assert_array_equal(np.bincount(labels), [20] * 3)
    chosen = np.arange(60)[None]
    zero = np.zeros((1, 1, 4, 3)), np.zeros((1, 1, 3))
    value = evaluate._objectives(x, labels, chosen, [0.5], *zero)
    assert value[0, 0] == pytest.approx(np.log(3))
    value = evaluate._objectives(x, labels, chosen, [0.5], zero[0] + 2, zero[1])
    assert value[0, 0] == pytest.approx(np.log(3) + 0.25 * 12 * 4, rel=1e-6)

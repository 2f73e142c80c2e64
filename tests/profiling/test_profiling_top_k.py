"""The top_k benchmark: its check and its JSON. No timing is asserted."""

import json

import numpy as np
import pytest

from profiling import top_k


def test_scores_are_held_against_float64():
    task = top_k.Task(bank=50, queries=20, dim=8, k=3)
    query, bank = top_k.data(task)
    runs, plans = top_k.contenders(task, query, bank, with_sklearn=True)
    assert list(runs) == ["rl_jax", "dense JAX", "scikit-learn"]
    assert plans["rl_jax"] > 0
    for search, _ in runs.values():
        scores = search()
        assert top_k.score_error(scores, query, bank, task) < 1e-6
        wrong = scores + 0.01
        assert top_k.score_error(wrong, query, bank, task) == pytest.approx(0.01, 1e-3)


def test_queries_have_a_near_neighbour():
    task = top_k.Task(bank=200, queries=30, dim=64, k=1)
    query, bank = top_k.data(task)
    assert (np.max(query @ bank.T, axis=1) > 0.5).all()


def test_result(tmp_path, capsys):
    size = ["--sizes", "60", "20", "8", "4"]
    top_k.main([*size, "--rounds", "3", "--budget", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "top_k.json").read_text())
    assert [r["contender"] for r in result["rows"]] == [
        "rl_jax",
        "dense JAX",
        "scikit-learn",
    ]
    assert all(len(r["seconds"]) == 3 for r in result["rows"])
    assert (tmp_path / "top_k.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "top_k.png").stat().st_size > 5000


def test_too_many_neighbours(capsys):
    with pytest.raises(SystemExit) as stopped:
        top_k.main(["--sizes", "10", "5", "4", "11"])
    assert stopped.value.code == 2
    assert "K must be at most the size of the bank" in capsys.readouterr().err

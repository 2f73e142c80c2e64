"""Rows survive kills: torn lines are left out, later ones cut at a resume."""

import json

import pytest

from rl_jax import train
from rl_jax.errors import UsageError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with train.MetricsFile(path) as file:
        for step in (10, 20, 30):
            file.write({"step": step, "loss": 1 / step})
        file.sync()
    return path


def steps(path):
    return [row["step"] for row in train.read_rows(path)]


def test_appends(path):
    with train.MetricsFile(path) as file:
        file.write({"step": 40, "loss": 0.1})
    assert steps(path) == [10, 20, 30, 40]


def test_a_torn_line_is_left_out(path):
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
    assert steps(path) == [10, 20, 30]
    train.keep_rows(path, up_to=30)
    assert path.read_text().count("\n") == 3


def test_rows_after_the_checkpoint_are_cut(path):
    train.keep_rows(path, up_to=20)
    assert steps(path) == [10, 20]
    train.keep_rows(path, up_to=0)
    assert steps(path) == []


def test_the_later_of_two_rows_of_a_step_counts(path):
    with train.MetricsFile(path) as file:
        file.write({"step": 20, "loss": 7.0})
    assert [row["loss"] for row in train.read_rows(path)][1] == 7.0


def test_what_json_cannot_hold_is_null(path):
    with train.MetricsFile(path) as file:
        file.write({"step": 40, "loss": float("nan"), "grad_norm": float("inf")})
    last = json.loads(path.read_text().splitlines()[-1])
    assert last == {"step": 40, "loss": None, "grad_norm": None}


def test_no_file_is_no_rows(tmp_path):
    assert train.read_rows(tmp_path / "none.jsonl") == []
    train.keep_rows(tmp_path / "none.jsonl", up_to=3)


def test_sinks_write_the_file(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with train.open_sinks(path) as sinks:
        sinks.write({"step": 1, "loss": 2.0})
        sinks.sync()
        assert steps(path) == [1]


def test_unknown_sinks_are_refused():
    with pytest.raises(UsageError, match="unknown sink 'comet'"):
        train.check_sinks(("comet",))

"""Rows survive kills: torn lines are left out, later ones cut at a resume."""

import contextlib
import json
import math
import resource

import pytest

from rl_jax import train
from rl_jax.errors import RunError, UsageError


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


@pytest.mark.parametrize("line", [b'{"step": 4\xdf}', b"[1]", b'{"a": 1}', b"7"])
def test_a_line_that_is_no_row_is_left_out(path, line):
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert steps(path) == [10, 20, 30]


def test_rows_after_the_checkpoint_are_cut(path):
    train.keep_rows(path, up_to=20)
    assert steps(path) == [10, 20]
    train.keep_rows(path, up_to=0)
    assert steps(path) == []


def test_the_later_of_two_rows_of_a_step_counts(path):
    with train.MetricsFile(path) as file:
        file.write({"step": 20, "loss": 7.0})
    assert [row["loss"] for row in train.read_rows(path)][1] == 7.0


def test_a_row_takes_the_place_of_that_of_its_step(path):
    with train.MetricsFile(path) as file:
        file.replace({"step": 20, "loss": math.nan})
        file.write({"step": 40, "loss": 0.1})
        file.replace({"step": 50, "loss": 0.2})
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50]
    assert rows[1] == {"step": 20, "loss": None}


def test_where_the_file_cannot_be_replaced_the_row_is_appended(path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("rl_jax.files.write_text", full)
    with train.MetricsFile(path) as file:
        file.replace({"step": 20, "loss": 7.0})
    assert path.read_text().count("\n") == 4
    assert [row["loss"] for row in train.read_rows(path)][1] == 7.0


def test_what_json_cannot_hold_is_null(path):
    with train.MetricsFile(path) as file:
        file.write({"step": 40, "loss": float("nan"), "grad_norm": float("inf")})
    last = json.loads(path.read_text().splitlines()[-1])
    assert last == {"step": 40, "loss": None, "grad_norm": None}


@contextlib.contextmanager
def no_room(path, more):
    """Files grow at most `more` bytes beyond the size of `path`."""
    kind = resource.RLIMIT_FSIZE
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (path.stat().st_size + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_rows_wait_while_the_disk_is_full(path):
    said = []
    with train.MetricsFile(path, say=said.append) as file:
        with no_room(path, 10):  # in the middle of a row
            for step in (40, 50):
                file.write({"step": step, "loss": 1 / step})
                file.sync()
            assert steps(path) == [10, 20, 30]
        with pytest.raises(RunError, match="2 rows are missing from .*metrics.jsonl"):
            file.check()
        file.write({"step": 60, "loss": 1 / 60})
        file.check()
    assert steps(path) == [10, 20, 30, 40, 50, 60]
    assert path.read_text().count("\n") == 6
    first, second = said
    assert first.startswith("warning: ")
    assert "training goes on and the rows wait in memory" in first
    assert second.endswith("is written again, no row is missing")


def test_rows_that_stay_out_are_an_error_after_closing(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    said = []
    with train.open_sinks(tmp_path / "metrics.jsonl", say=said.append) as sinks:
        for step in (1, 2, 3):
            sinks.write({"step": step})
            sinks.sync()
    assert len(said) == 1
    with pytest.raises(RunError, match="3 rows are missing .* No space left on device"):
        sinks.check()


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

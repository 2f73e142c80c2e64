"""`rl-jax bench`: finds the benchmarks of a checkout, or says that there are none."""

import json

import pytest

import profiling
from rl_jax.cli import bench, main


def one_line(capfd, *argv, code=2):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *argv])
    error = capfd.readouterr().err
    assert stopped.value.code == code
    assert error.count("\n") == 1, error
    return error


def test_no_name(capfd):
    assert "name a benchmark first; there are: pairwise, memory" in one_line(capfd)


def test_an_unknown_name(capfd):
    assert "unknown benchmark 'sped'; there are: pairwise" in one_line(capfd, "sped")


def test_without_a_checkout(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    error = one_line(capfd, "memory")
    assert "no folder profiling/ beside the package" in error


def test_help(capsys):
    main(["bench", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in bench.NAMES)


def test_every_benchmark_has_a_name():
    assert {*bench.NAMES} - {"pairwise"} == {*profiling.NAMES}


def test_pairwise_is_three_benchmarks(monkeypatch):
    ran = []
    monkeypatch.setattr(bench, "_run", lambda *call: ran.append(call) or 0)
    main(["bench", "pairwise", "--out", "there"])
    options = ["--quick", "--out", "there"]
    assert ran == [(name, options) for name in ("memory", "speed", "top_k")]


def test_the_first_that_fails_ends_it(monkeypatch):
    ran = []
    monkeypatch.setattr(bench, "_run", lambda *call: ran.append(call) or 3)
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "pairwise"])
    assert (stopped.value.code, len(ran)) == (3, 1)


@pytest.mark.slow
def test_memory_from_another_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    main(["bench", "memory", "--views", "64", "--dim", "8", "--out", "here"])
    result = json.loads((tmp_path / "here" / "memory.json").read_text())
    assert result["settings"]["views"] == [64]
    assert "# Memory" in capfd.readouterr().out


@pytest.mark.slow
def test_a_bad_option_is_one_line(capfd):
    error = one_line(capfd, "speed", "--rounds", "0")
    assert "expected a whole number >= 1, got '0'" in error

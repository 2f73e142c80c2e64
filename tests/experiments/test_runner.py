"""The runner: order, exit codes, what is printed, what is written and when."""

import json
import os
import pathlib
import signal
import sys

import pytest

import experiments
from experiments import catalogue, record, runner, terminal
from experiments.outcome import Check
from rl_jax.errors import UsageError


def run(*argv, code=0):
    """Runs the command here; those made up are in no other process."""
    argv = argv if "--jobs" in argv else (*argv, "--jobs", 1)
    if code:
        with pytest.raises(SystemExit) as stopped:
            runner.main([str(a) for a in argv])
        assert stopped.value.code == code
    else:
        runner.main([str(a) for a in argv])


def read(out):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (out / "results.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=refuse)


def test_those_named_run_once_in_the_order_of_the_text(fakes, tmp_path, capsys):
    run("fake_corrected", "fake_holds", "fake_corrected", "--out", tmp_path)
    found = read(tmp_path)
    names = ["fake_holds", "fake_corrected"]
    assert found["asked"] == [e["name"] for e in found["experiments"]] == names
    assert (tmp_path / "atlas.html").exists()
    said = capsys.readouterr().out
    assert "2 of 2 hold, 1 with a correction to the text; " in said
    assert "Correction to the text: It is <two>, not three." in said
    assert f"page: {tmp_path / 'atlas.html'}" in said


def test_one_that_fails_or_raises_does_not_stop_the_others(fakes, tmp_path, capsys):
    run("--out", tmp_path, code=1)
    found = {e["name"]: e for e in read(tmp_path)["experiments"]}
    assert tuple(found) == fakes
    assert [e["passed"] for e in found.values()] == [True, True, False, False, False]
    assert not found["fake_fails"]["error"]
    error = found["fake_raises"]["error"]
    assert error.startswith("ZeroDivisionError: division by zero (experiments/fake_")
    assert found["fake_raises"]["checks"] == []
    assert "no panel" in found["fake_figure"]["error"]
    assert all(check["passed"] for check in found["fake_figure"]["checks"])
    said = capsys.readouterr().out
    assert "2 of 5 hold" in said
    assert "not fake_fails, fake_raises, fake_figure" in said
    assert "Traceback" not in said


def test_the_file_of_results(fakes, tmp_path):
    run("fake_corrected", "--out", tmp_path)
    found = read(tmp_path)
    assert found["format"] == record.FORMAT
    assert {"rl_jax", "jax", "python", "numpy"} <= set(found["versions"])
    assert "cpu" in found["device"]
    (only,) = found["experiments"]
    times = ("seconds", "seconds_importing", "seconds_drawing")
    assert all(only.pop(key) >= 0 for key in times)
    assert only == {
        "name": "fake_corrected",
        "section": "2.2",
        "title": "A & B <title>",
        "claim": "A claim.",
        "passed": True,
        "error": "",
        "checks": [
            {
                "quantity": "1 + 1 <in all>",
                "found": 2.0,
                "relation": "=",
                "expected": 2.0,
                "tolerance": 0.01,
                "unit": "nat",
                "passed": True,
            },
            {
                "quantity": "size",
                "found": 2.0,
                "relation": "≤",
                "expected": 5.0,
                "tolerance": 0.0,
                "unit": "",
                "passed": True,
            },
        ],
        "said": "It is 2.0.",
        "correction": "It is <two>, not three.",
        "settings": {"value": 2.0, "steps": 3, "sizes": [1, 2]},
    }


def test_results_are_complete_after_each(fakes, tmp_path, monkeypatch):
    def interrupted(name, settings):
        if name == "fake_corrected":
            raise KeyboardInterrupt
        return one(name, settings)

    one = record.experiment
    monkeypatch.setattr(record, "experiment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("--out", tmp_path)
    found = read(tmp_path)
    assert [e["name"] for e in found["experiments"]] == ["fake_holds"]
    assert found["asked"] == list(fakes)
    assert not (tmp_path / "atlas.html").exists()
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_what_is_no_number_is_null(fakes, tmp_path):
    run("fake_holds", "--value", "nan", "--out", tmp_path, code=1)
    (only,) = read(tmp_path)["experiments"]
    assert only["checks"][0]["found"] is None
    assert not only["checks"][0]["passed"]


def test_flags_of_one_experiment(fakes, tmp_path):
    flags = ["--steps", "5", "--sizes", "1", "7", "--value", "-2"]
    run("fake_holds", *flags, "--out", tmp_path, code=1)
    (only,) = read(tmp_path)["experiments"]
    assert only["settings"] == {"value": -2.0, "steps": 5, "sizes": [1, 7]}
    assert [check["found"] for check in only["checks"]] == [-2.0, 7.0]


def test_bad_settings_are_reported_in_one_line(fakes, tmp_path, capsys):
    run("fake_holds", "--steps", "10", "--out", tmp_path, code=1)
    said = capsys.readouterr().out
    line = "✗ ValueError: steps must be at most 9, got 10 <so> (experiments/fake_holds"
    assert line in said


def test_help_of_one_experiment(fakes, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("fake_holds", "--help")
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "One and one <are> two." in said
    assert "--steps INT" in said
    assert "how many, at most 9. (default: 3)" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fake_hold"], "there is no 'fake_hold'; did you mean fake_holds"),
        (["zzz"], "there is no 'zzz'; none is near it"),
        (["fake_holds", "--step", "3"], "unrecognized options: --step, 3"),
        (["fake_holds", "--steps", "x"], "error parsing --steps: invalid literal"),
        (["fake_holds", "fake_fails", "--steps", "3"], "it runs alone"),
        (["--steps", "3"], "--steps is no option of the command"),
        (["--out"], "argument --out: expected one argument"),
        (["fake_lost", "--steps", "3"], "fake_lost cannot be imported: ModuleNotF"),
    ],
)
def test_usage(fakes, monkeypatch, argv, message):
    monkeypatch.setattr(experiments, "NAMES", (*experiments.NAMES, "fake_lost"))
    with pytest.raises(UsageError, match="^[^\n]*$") as refused:
        runner.main(argv)
    assert message in str(refused.value)


def test_a_name_without_its_file_is_an_error_of_that_one(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "NAMES", ("fake_lost", "fake_holds"))
    run("--out", tmp_path, code=1)
    lost, holds = read(tmp_path)["experiments"]
    assert lost["error"] == (
        "ModuleNotFoundError: No module named 'experiments.fake_lost'"
    )
    assert holds["passed"]


@pytest.mark.parametrize(
    ("count", "asked", "cores", "jobs"),
    [(1, 8, 2, 1), (33, None, 2, 2), (33, None, 64, 4), (3, 8, 2, 3), (2, None, 1, 1)],
)
def test_how_many_at_a_time(monkeypatch, count, asked, cores, jobs):
    monkeypatch.setattr(runner.os, "cpu_count", lambda: cores)
    assert runner.jobs_for(count, asked) == jobs


def test_jobs_below_one():
    with pytest.raises(UsageError, match="--jobs must be at least 1, got 0"):
        runner.jobs_for(2, 0)


def test_two_at_a_time_are_printed_in_order(tmp_path, capsys):
    names = ["bayes_risk", "elbo"]
    run(*names, "--jobs", 2, "--out", tmp_path)
    assert [e["name"] for e in read(tmp_path)["experiments"]] == names
    said = capsys.readouterr().out
    assert said.index("bayes_risk") < said.index("elbo")
    assert "2 of 2 hold" in said


def test_a_process_that_dies_is_an_error_and_no_hang(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.record, "experiment", dies)
    run("fake_holds", "fake_corrected", "--jobs", 2, "--out", tmp_path, code=1)
    for found in read(tmp_path)["experiments"]:
        assert found["error"].startswith("the process in which it ran, or was to run")


def dies(name, settings):
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_compile_quickly_and_flags_of_the_user_go_before(
    fakes, tmp_path, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    monkeypatch.setattr(runner.record, "experiment", flagged)
    run("fake_holds", "fake_corrected", "--jobs", 2, "--out", tmp_path, code=1)
    for found in read(tmp_path)["experiments"]:
        ours, users = found["error"].split()
        assert ours == runner.QUICKLY_COMPILED
        assert users == "--xla_backend_optimization_level=2"


def flagged(name, settings):
    return record.lost(name, settings)._replace(error=os.environ["XLA_FLAGS"])


def test_figures_as_files(fakes, tmp_path):
    run("--out", tmp_path, "--figures", tmp_path / "figures", code=1)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {"fake_holds.svg", "fake_corrected.svg", "fake_fails.svg"}
    text = (tmp_path / "figures" / "fake_holds.svg").read_text(encoding="utf-8")
    assert "currentColor" not in text
    assert text.startswith("<svg")


def test_lists_run_nothing(fakes, capsys, monkeypatch):
    monkeypatch.setattr(runner, "run", None)
    run("--list")
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in listed] == [
        [f"{k}.{k}", name] for k, name in enumerate(fakes, 1)
    ]
    run("fake_holds", "--quick-help")
    explained = capsys.readouterr().out
    assert "    x + y = y + x" in explained
    assert "--sizes tuple[int, ...] = (1, 2)" in explained
    run("--help")
    assert "--figures DIR" in capsys.readouterr().out
    assert not any(name.startswith("experiments.fake") for name in sys.modules)


def test_on_a_terminal_the_same_lines_stand_above_a_bar(
    fakes, tmp_path, capsys, monkeypatch
):
    run("fake_fails", "--out", tmp_path, code=1)
    plain = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run("fake_fails", "--out", tmp_path, code=1)
    shown = capsys.readouterr().out
    table = [line for line in plain.splitlines() if "nat" in line or "size" in line]
    assert len(table) == 2
    assert all(line in shown for line in table)
    assert "0/1" in shown


def test_table():
    checks = (
        Check("‖A − B‖_F", 3.14159e-7, "≤", 1e-6),
        Check("information", 0.693152, "=", 0.6931471805599453, 1e-4, "nat"),
        Check("a quantity that is so long that it takes two lines of the table",
              float("nan"), "≥", 0.5),
    )  # fmt: skip
    head, *rows, rest = terminal.table(checks)
    assert rest == "  lines of the table"
    assert [row.split()[-2:] for row in rows] == [
        ["✓", "pass"],
        ["✓", "pass"],
        ["✗", "fail"],
    ]
    assert rows[1].split()[:-2] == [
        *("information", "0.693152", "=", "0.693147", "0.0001", "nat"),
    ]
    ends = {row.index(mark) for row, mark in zip(rows, "✓✓✗", strict=True)}
    assert len(ends) == 1
    for name, cell in (("found", "0.693152"), ("expected", "0.693147")):
        right = head.index(name) + len(name)
        assert rows[1].index(cell) + len(cell) == right


def test_columns_without_anything_are_left_out():
    lines = terminal.table((Check("q", 1.0, "≤", 2.0),))
    assert lines[0].split() == ["quantity", "found", "expected"]
    assert terminal.table(()) == [""]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (Check("q", 0.81612, "=", 0.816, 0.03), ("0.8161", "0.816", "0.03")),
        (Check("q", 1.00000012, "=", 1.0, 1e-6), ("1.0000001", "1", "1e-6")),
        (Check("q", 0.123456789, "=", 0.1234, 1e-3), ("0.12346", "0.1234", "0.001")),
        (Check("q", 3e-11, "=", 0.0, 1e-10), ("3e-11", "0", "1e-10")),
        (Check("q", 123456.0, "≥", 100000.0), ("1.235e5", "100000", "")),
        (Check("q", float("inf"), "=", 1.0, float("inf")), ("inf", "1", "inf")),
    ],
)
def test_digits(check, text):
    assert record.digits(check) == text


def test_the_entry_of_a_file(fakes):
    entry = catalogue.read("fake_corrected")
    assert entry.claim == "A claim."
    assert entry.text.startswith("Let x be <any> number")
    assert entry.caption == "A line; `x` & more <than> that."
    assert entry.flags[1] == "--steps int = 3"
    assert catalogue.read("fake_lost") == catalogue.Entry("fake_lost")


def test_a_file_that_does_not_parse_has_an_empty_entry(fakes, tmp_path):
    (tmp_path / "fakes" / "fake_holds.py").write_text("def run(:\n")
    assert catalogue.read("fake_holds") == catalogue.Entry("fake_holds")


def test_default_folder_is_below_runs():
    assert pathlib.Path("runs") / "experiments" == runner.OUT

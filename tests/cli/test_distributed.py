"""`rl-jax pretrain --distributed`: one run of several processes."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import pytest
from reference import jobs

from rl_jax import train
from rl_jax.cli import main

RUN = ["--steps", "120", "--batch-size", "16", "--log-every", "2", "--encoder", "mlp"]


def command(*words):
    """The command line as a program of its own."""
    code = "import sys; from rl_jax.cli import main; main(sys.argv[1:])"
    return ["-c", code, *map(str, words)]


def job(*words):
    return jobs.start(command(*words))


def training(folder):
    """A run of two processes that has logged some rows."""
    started = job("pretrain", "simclr", *RUN, "--run-dir", folder, "--distributed")
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert all(process.poll() is None for process in started)
        time.sleep(0.05)
    return started


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "coordinator_address should be defined"),
        ({"JAX_NUM_PROCESSES": "two"}, "expected integers, got JAX_NUM_PROCESSES=two"),
        (
            {"RL_JAX_HEARTBEAT_TIMEOUT": "soon"},
            "expected whole seconds, got RL_JAX_HEARTBEAT_TIMEOUT=soon",
        ),
    ],
)
def test_processes_that_nobody_names(environment, said):
    alone = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "SLURM"))}
    found = subprocess.run(
        [sys.executable, *command("pretrain", "simclr", "--distributed")],
        env=alone | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2, found.stderr
    assert found.stderr.startswith("rl-jax: distributed: ")
    assert said in found.stderr
    assert found.stderr.count("\n") == 1


def test_joining_too_late_is_one_line(capsys):
    jax.devices()
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "simclr", "--distributed"])
    assert end.value.code == 1
    assert "must be called before any JAX calls" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.fault
def test_sigterm_to_one_stops_both_and_both_continue(tmp_path):
    folder = tmp_path / "run"
    started = training(folder)
    started[1].send_signal(signal.SIGTERM)
    (first, said), (second, told) = jobs.ended(started)
    assert (first, second) == (75, 75), said + told
    assert "stopped with another process at step" in said
    assert "stopped by SIGTERM at step" in told
    for code, said in jobs.ended(job("resume", folder, "--distributed")):
        assert code == 0, said
    metrics = (folder / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in metrics.splitlines()]
    assert [row["step"] for row in rows] == list(range(2, 121, 2))
    for code, said in jobs.ended(job("pretrain", "simclr", "--run-dir", folder,
                                     "--distributed")):  # fmt: skip
        assert code == 2
        assert "holds a run already" in said


@pytest.mark.slow
@pytest.mark.fault
def test_sigterm_stops_both_long_before_a_row_is_due(tmp_path):
    """In some seconds: where rows were due they would run for an hour."""
    folder = tmp_path / "run"
    often = ["--log-every", "1000000", "--checkpoint-every", "1000000"]
    rare = [*RUN[2:4], "--encoder", "mlp", "--steps", "1000000", *often]
    started = job("pretrain", "simclr", *rare, "--run-dir", folder, "--distributed")
    while not (folder / "views.png").exists():
        assert all(process.poll() is None for process in started)
        time.sleep(0.05)
    time.sleep(10)  # so that there are many steps between two questions
    started[1].send_signal(signal.SIGTERM)
    for code, said in jobs.ended(started, timeout=60):
        assert code == 75, said
    (step,) = train.Checkpoints(folder / "checkpoints").steps()
    assert f"at step {step}, saved in" in said
    assert step < 1000000


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_killed_ends_the_other(tmp_path, victim):
    started = training(tmp_path / "run")
    started[victim].kill()
    ended = jobs.ended(started)
    assert ended[victim][0] == -signal.SIGKILL
    code, said = ended[1 - victim]
    # With the first goes the service that all are bound to: jax aborts the others.
    assert code == (5 if victim else -signal.SIGABRT), said
    if victim:
        line = said.splitlines()[-1]
        assert line.startswith("rl-jax: another process has gone without a word: ")


BROKEN = """
import os, sys
from rl_jax.errors import WorkerError
from rl_jax.train import loop

row, rows = loop._Clock.row, []

def broken(self, step):
    rows.append(step)
    if len(rows) == 5 and os.environ["JAX_PROCESS_ID"] == "RANK":
        raise ERROR
    return row(self, step)

loop._Clock.row = broken
from rl_jax.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize(
    ("rank", "error", "code", "last"),
    [
        (0, "ValueError('boom')", 1, "ValueError: boom"),
        (1, "ValueError('boom')", 1, "ValueError: boom"),
        (1, "WorkerError('data: it died')", 5, "rl-jax: data: it died"),
    ],
)
def test_what_fails_on_one_ends_both(tmp_path, rank, error, code, last):
    """With its own code there, and a line that says so on the other."""
    text = BROKEN.replace("RANK", str(rank)).replace("ERROR", error)
    words = ["pretrain", "simclr", *RUN, "--distributed", "--run-dir", tmp_path / "run"]
    started = jobs.start(["-c", text, *map(str, words)])
    ended = jobs.ended(started, timeout=120)
    assert ended[rank][0] == code, ended[rank][1]
    assert ended[rank][1].splitlines()[-1] == last
    other, said = ended[1 - rank]
    assert other == 5, said
    told = last.removeprefix("rl-jax: ")
    assert said.splitlines()[-1] == f"rl-jax: process {rank} has stopped: {told}"
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("rank", [0, 1])
def test_one_whose_fellow_never_comes(rank, monkeypatch):
    monkeypatch.setenv("RL_JAX_START_TIMEOUT", "3")
    started = jobs.start(command("pretrain", "simclr", "--distributed"))
    started[1 - rank].kill()
    code, said = jobs.ended(started)[rank]
    assert code == 5, said
    assert said.startswith("rl-jax: distributed: the processes did not meet within 3 s")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_both_start_with_the_weights_of_another_run(tmp_path):
    few = ["--steps", "4", "--batch-size", "8", "--encoder", "mlp", "--distributed"]
    for method, more in (("simclr", []), ("supervised", ["--init-from", "simclr"])):
        words = [str(tmp_path / word) if word == "simclr" else word for word in more]
        run = tmp_path / method
        for code, said in jobs.ended(job("pretrain", method, *few, *words,
                                         "--run-dir", run)):  # fmt: skip
            assert code == 0, said
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    assert recipe["init_from"]["step"] == 4


@pytest.mark.slow
def test_both_score_by_k_nn_and_one_writes_it(tmp_path):
    folder = tmp_path / "run"
    words = [*RUN, "--steps", "8", "--knn-every", "4", "--run-dir", folder]
    for code, said in jobs.ended(job("pretrain", "simclr", *words, "--distributed")):
        assert code == 0, said
    rows = train.read_rows(folder / "metrics.jsonl")
    scores = {row["step"]: row["knn"] for row in rows if "knn" in row}
    assert list(scores) == [4, 8]
    assert all(0.8 < score <= 1 for score in scores.values())


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("steps", [4, 8])
def test_both_make_a_score_that_is_owed(tmp_path, steps):
    """Of the last step, after which the run is at its end, and of one before."""
    folder = tmp_path / "run"
    words = [*RUN, "--steps", "4", "--knn-every", "4", "--run-dir", folder]
    for code, said in jobs.ended(job("pretrain", "simclr", *words, "--distributed")):
        assert code == 0, said
    path = folder / "metrics.jsonl"
    first, last = map(json.loads, path.read_text().splitlines())
    value = last.pop("knn")
    path.write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")
    words = ["resume", folder, "--steps", steps, "--no-evaluate", "--distributed"]
    for code, said in jobs.ended(job(*words)):
        assert code == 0, said
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(2, steps + 1, 2))
    assert rows[1] == last | {"knn": pytest.approx(value)}


@pytest.mark.slow
def test_processes_started_with_other_flags_or_code_are_refused(tmp_path):
    def other_flags(rank):
        return command("pretrain", "simclr", *RUN, "--seed", rank, "--distributed",
                       "--run-dir", run)  # fmt: skip

    def other_code(rank):
        folder = tmp_path / str(rank)
        folder.mkdir()
        (folder / "mine.py").write_text(
            "import optax\n\n\ndef gd() -> optax.GradientTransformation:\n"
            f"    return optax.sgd(0.{1 + rank})\n"
        )
        code = f"import os; os.chdir({str(folder)!r}); {command()[1]}"
        return ["-c", code, "pretrain", "simclr", *RUN, "--optimizer", "mine:gd",
                "--distributed", "--run-dir", str(run)]  # fmt: skip

    run = tmp_path / "run"
    for unlike, said in (
        (other_flags, "seed is 1 here and 0 there"),
        (other_code, "the file of mine is "),
    ):
        (first, _), (second, told) = jobs.ended(jobs.start(unlike))
        assert (first, second) == (1, 2), told
        assert "process 1 would not train what the first does" in told
        assert said in told
        assert not run.exists()

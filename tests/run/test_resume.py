"""A run that is killed and continued is the run that was not interrupted."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rl_jax import train

pytestmark = [pytest.mark.core, pytest.mark.fault]
STEPS, EVERY = 60, 7
SMALL = [
    *("--steps", STEPS, "--batch-size", 64, "--log-every", 1),
    *("--checkpoint-every", EVERY, "--no-evaluate"),
    *("--encoder", "mlp", "--encoder.features", 16, "--encoder.out", 16),
    *("--projector.hidden", 16, "--projector.out", 8),
]

DYING = """
import json, os, signal, sys
from rl_jax.cli import main
from rl_jax.train import MetricsFile

at, write, seen = json.loads(sys.argv.pop(1)), MetricsFile.write, []
torn = f"/{at.get('save')}.orbax-checkpoint-tmp"

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(self, row):
    write(self, row)
    if row["step"] == at.get("step"):
        die()

def hook(event, arguments):
    if event in ("open", "os.mkdir", "os.rename") and torn in str(arguments[0]):
        seen.append(event)
        if len(seen) == at["event"]:
            die()

MetricsFile.write = counted
sys.addaudithook(hook)
main()
"""
"""Kills itself when the row of a step is written, or as a checkpoint is: at an event of
its temporary folder, which is its making, the opening of a file in it, a renaming."""

EVENTS = 21
"""Of a save; the last is the renaming that makes it a checkpoint."""


def command(*arguments):
    code = "from rl_jax.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def launch(*arguments):
    return started(command(*arguments))


def started(words):
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"XLA_FLAGS": ""},
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def killed(arguments, folder, **at):
    """Starts or continues a run that is killed at a moment, and checks that it was."""
    last = ["--run-dir", folder]
    if (folder / "run.json").exists():
        arguments, last = ["resume", folder, "--no-evaluate"], []
    words = [sys.executable, "-c", DYING, json.dumps(at), *arguments, *last]
    code, output = finish(started([str(word) for word in words]))
    assert code == -signal.SIGKILL, output
    if "step" in at:
        assert rows(folder)[-1]["step"] == at["step"]
    else:
        assert torn(folder) == [at["save"]]
        assert not (folder / "checkpoints" / str(at["save"])).exists()


def torn(folder):
    """Steps of which a save was begun and not ended."""
    found = (folder / "checkpoints").glob("*.orbax-checkpoint-tmp*")
    return sorted(int(p.name.partition(".")[0]) for p in found)


def rows(folder):
    return train.read_rows(folder / "metrics.jsonl")


def result(folder):
    """The digests of every leaf of the last checkpoint, and the rows without clocks."""
    meta = folder / "checkpoints" / str(STEPS) / "meta" / "metadata"
    metrics = [
        {k: v for k, v in row.items() if k not in train.CLOCK} for row in rows(folder)
    ]
    return json.loads(meta.read_text())["leaves"], metrics


def wait_for(condition, process):
    while process.poll() is None and not condition():
        time.sleep(0.002)


METHODS = [
    "moco",  # has all there is to lose: a target, its statistics, a queue
    pytest.param("simclr", marks=pytest.mark.slow),
    pytest.param("byol", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=METHODS)
def whole(request, tmp_path_factory):
    """A method, and the folder of its run to which nothing happened."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    more = ["--queue-size", 256] if request.param == "moco" else []
    arguments = ["pretrain", request.param, *SMALL, *more]
    code, output = finish(launch(*arguments, "--run-dir", folder))
    assert code == 0, output
    return arguments, folder


@pytest.fixture
def uninterrupted(whole):
    arguments, folder = whole
    return arguments, result(folder)


def check_kills(arguments, expected, folder, moments):
    removed = 0
    for at in moments:
        left = torn(folder)
        killed(arguments, folder, **at)
        if left and "step" in at and at["step"] < left[0]:
            assert torn(folder) == [], "what a torn save left is removed at the start"
            removed += 1
    assert removed > 0
    code, output = finish(launch("resume", folder, "--no-evaluate"))
    assert code == 0, output
    assert torn(folder) == []
    assert result(folder) == expected


def test_sigkill_in_training_and_in_a_save(uninterrupted, tmp_path):
    arguments, expected = uninterrupted
    moments = [
        {"save": 28, "event": 9},
        {"step": 26},  # before it saves again
    ]
    check_kills(arguments, expected, tmp_path / "a run", moments)


def drawn(count):
    """Saves and steps before these in turn, later and later, drawn from a seed."""
    draw = random.Random(5)
    saves = sorted(draw.sample(range(2 * EVERY, STEPS, EVERY), count // 2))
    for save in saves:
        yield {"save": save, "event": draw.randrange(1, EVENTS + 1)}
        yield {"step": draw.randrange(save - EVERY + 1, save)}


@pytest.mark.slow
def test_sigkill_at_ten_moments(uninterrupted, tmp_path):
    arguments, expected = uninterrupted
    moments = list(drawn(10))
    assert len(moments) == 10
    check_kills(arguments, expected, tmp_path / "run", moments)


@pytest.mark.slow
def test_sigkill_of_a_large_state(tmp_path):
    """140 MB, of which a save takes long enough to be killed in its midst."""
    arguments = ["pretrain", "moco", *SMALL, "--queue-size", 256]
    arguments += ["--encoder.features", 3000, 3000]
    code, output = finish(launch(*arguments, "--run-dir", tmp_path / "whole"))
    assert code == 0, output
    expected = result(tmp_path / "whole")
    payload = (tmp_path / "whole/checkpoints" / str(STEPS)).rglob("*")
    assert sum(p.stat().st_size for p in payload) > 100e6
    check_kills(arguments, expected, tmp_path / "run", drawn(10))


@pytest.mark.slow  # test_interrupted.py has the quick form
def test_sigterm_saves_and_says_how_to_go_on(uninterrupted, tmp_path):
    arguments, expected = uninterrupted
    folder = tmp_path / "run"
    process = launch(*arguments, "--run-dir", folder)
    wait_for(lambda: len(rows(folder)) >= 20, process)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 75, output
    assert f"continue with: rl-jax resume {folder}" in output
    assert "Traceback" not in output
    saved = train.Checkpoints(folder / "checkpoints").steps()[-1]
    assert saved == rows(folder)[-1]["step"]
    code, output = finish(launch("resume", folder, "--no-evaluate"))
    assert code == 0, output
    assert f"continuing from the checkpoint of step {saved}" in output
    assert result(folder) == expected


@pytest.mark.slow
def test_killed_before_its_first_checkpoint(uninterrupted, tmp_path):
    arguments, expected = uninterrupted
    folder = tmp_path / "run"
    killed(arguments, folder, step=EVERY - 3)
    code, output = finish(launch("resume", folder, "--no-evaluate"))
    assert code == 0, output
    assert "no checkpoint yet: starting from the seed at step 0" in output
    assert result(folder) == expected


def test_no_sound_checkpoint_is_exit_code_3(whole, tmp_path):
    folder = shutil.copytree(whole[1], tmp_path / "run")
    for meta in folder.glob("checkpoints/*/meta/metadata"):
        meta.write_text("{")
    code, output = finish(launch("resume", folder))
    assert code == 3, output
    assert "none of 3 checkpoints is sound" in output
    assert "Traceback" not in output

"""A run that is killed and continued is the run that was not interrupted."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from rl_jax import train

pytestmark = [pytest.mark.core, pytest.mark.fault]
STEPS = 60
SMALL = [
    *("--steps", STEPS, "--batch-size", 64, "--log-every", 1),
    *("--checkpoint-every", 7, "--no-evaluate"),
    *("--encoder", "mlp", "--encoder.features", 16, "--encoder.out", 16),
    *("--projector.hidden", 16, "--projector.out", 8),
]


def command(*arguments):
    code = "from rl_jax.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def launch(*arguments):
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"XLA_FLAGS": ""},
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


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
def uninterrupted(request, tmp_path_factory):
    """A method, and what its run gives when nothing happens to it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    more = ["--queue-size", 256] if request.param == "moco" else []
    arguments = ["pretrain", request.param, *SMALL, *more]
    code, output = finish(launch(*arguments, "--run-dir", folder))
    assert code == 0, output
    return arguments, result(folder)


def saving(folder):
    return any((folder / "checkpoints").glob("*tmp*"))


def moments(folder, count):
    """Conditions under which to kill: at random steps, during a save, in the start."""
    draw = random.Random(5)
    at = sorted(draw.randrange(2, STEPS - 2) for _ in range(count - 2))
    steps = [lambda n=n: len(rows(folder)) >= n for n in at]
    start = time.monotonic() + 1.5
    first, *others = steps
    return [lambda: time.monotonic() > start, first, lambda: saving(folder), *others]


def test_sigkill_at_five_moments(uninterrupted, tmp_path):
    arguments, expected = uninterrupted
    folder = tmp_path / "a run"
    process = launch(*arguments, "--run-dir", folder)
    for condition in moments(folder, 5):
        wait_for(condition, process)
        process.send_signal(signal.SIGKILL)
        finish(process)
        process = (
            launch("resume", folder, "--no-evaluate")
            if (folder / "run.json").exists()
            else launch(*arguments, "--run-dir", folder)
        )
    code, output = finish(process)
    assert code == 0, output
    assert result(folder) == expected


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


def test_killed_before_its_first_checkpoint(uninterrupted, tmp_path):
    arguments, expected = uninterrupted
    folder = tmp_path / "run"
    process = launch(*arguments, "--run-dir", folder)
    wait_for((folder / "run.json").exists, process)
    process.send_signal(signal.SIGKILL)
    finish(process)
    code, output = finish(launch("resume", folder, "--no-evaluate"))
    assert code == 0, output
    assert "no checkpoint yet: starting from the seed at step 0" in output
    assert result(folder) == expected


def test_no_sound_checkpoint_is_exit_code_3(tmp_path, uninterrupted):
    arguments, _ = uninterrupted
    folder = tmp_path / "run"
    code, output = finish(launch(*arguments, "--run-dir", folder))
    assert code == 0, output
    for meta in pathlib.Path(folder).glob("checkpoints/*/meta/metadata"):
        meta.write_text("{")
    code, output = finish(launch("resume", folder))
    assert code == 3, output
    assert "none of 3 checkpoints is sound" in output
    assert "Traceback" not in output

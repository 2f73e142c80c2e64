"""Reading the folder of a run that trains: nothing half is seen, nothing is deleted."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rl_jax import train
from rl_jax.cli import main

pytestmark = [pytest.mark.fault, pytest.mark.slow]
ARGUMENTS = [
    *(
        "pretrain",
        "moco",
        "--steps",
        "100000",
        "--batch-size",
        "64",
        "--log-every",
        "1",
    ),
    *("--checkpoint-every", "5", "--queue-size", "256", "--no-evaluate"),
    *("--encoder", "mlp", "--encoder.features", "16", "--encoder.out", "16"),
    *("--projector.hidden", "16", "--projector.out", "8"),
]


def contents(run):
    """Every file of the training, and its size."""
    return {
        str(p.relative_to(run)): p.stat().st_size
        for p in run.rglob("*")
        if p.is_file() and p.name not in ("report.html", "out.npz")
    }


def saving(run):
    return any((run / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def paused_in_a_save(process, run):
    """Stops the training while a checkpoint is being written and others are there."""
    checkpoints = run / "checkpoints"
    while process.poll() is None:
        if saving(run) and any(p.name.isdigit() for p in checkpoints.iterdir()):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            if saving(run):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    pytest.fail("the training has ended")


def test_readers_see_whole_steps_and_delete_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    run = tmp_path / "run"
    code = "from rl_jax.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *ARGUMENTS, "--run-dir", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"XLA_FLAGS": ""},
    )
    try:
        while process.poll() is None and not (run / "checkpoints").exists():
            time.sleep(0.01)
        paused_in_a_save(process, run)
        before = contents(run)
        main(["embed", str(run), "digits", "-o", str(tmp_path / "out.npz")])
        main(["report", str(run)])
        main(["doctor", "--path", str(run)])
        assert "warning: checkpoint" not in capsys.readouterr().out
        assert contents(run) == before, "nothing is written or deleted"
        process.send_signal(signal.SIGCONT)
        output = ["-o", str(tmp_path / "out.npz"), "--overwrite"]
        main(["embed", str(run), "digits", *output])
        main(["report", str(run)])
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 75, output
    assert "not written" not in output
    with np.load(tmp_path / "out.npz") as found:
        assert all(np.isfinite(found[name]).all() for name in found.files)
    steps = train.Checkpoints(run / "checkpoints").steps()
    assert steps[-1] == train.read_rows(run / "metrics.jsonl")[-1]["step"]
    assert not list((run / "checkpoints").glob("*.corrupt"))

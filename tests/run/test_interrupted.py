"""A signal at any moment of a run; a disk without room; a lock that was left."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from rl_jax import train
from rl_jax.cli import main
from rl_jax.run.lock import locked
from rl_jax.train import loop, step

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("no_cache")]
SMALL = [
    *("--steps", "40", "--batch-size", "8", "--no-evaluate", "--no-probe"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
]


@pytest.fixture
def start(tmp_path, capsys):
    """A function that starts the run: exit code, output, standard error."""
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    np.savez(tmp_path / "small.npz", image=images)

    def started():
        where = ["--data", tmp_path / "small.npz", "--run-dir", tmp_path / "run"]
        code = 0
        try:
            main(["pretrain", "simclr", *map(str, where), *SMALL])
        except SystemExit as stopped:
            code = stopped.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return started


def send_once(sent):
    """Sends SIGTERM where a run listens to it, the first time."""
    if not sent and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        sent.append(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def compiling(monkeypatch, sent):
    """As the step is traced for its compilation."""
    diagnostics = step.diagnostics

    def told(features):
        send_once(sent)
        return diagnostics(features)

    monkeypatch.setattr(step, "diagnostics", told)


def waiting_for_data(monkeypatch, sent):
    """As the third batch is waited for."""
    enter, times = loop._Waiting.__enter__, []

    def entered(self):
        enter(self)
        times.append(1)
        if len(times) == 3:
            send_once(sent)

    monkeypatch.setattr(loop._Waiting, "__enter__", entered)


@pytest.mark.parametrize(("moment", "after"), [(compiling, 1), (waiting_for_data, 3)])
def test_sigterm_ends_with_a_checkpoint(start, tmp_path, monkeypatch, moment, after):
    sent = []
    moment(monkeypatch, sent)
    code, _, error = start()
    assert sent
    assert code == 75
    assert error.count("\n") == 1
    assert f"stopped by SIGTERM at step {after}, saved in" in error
    assert "continue with: rl-jax resume" in error
    assert train.Checkpoints(tmp_path / "run" / "checkpoints").steps() == [after]


def test_a_disk_without_room_is_refused_at_the_start(start, tmp_path, monkeypatch):
    few = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: few)
    code, _, error = start()
    assert code == 1
    assert error.count("\n") == 1
    assert "has 0.0 MB free, a checkpoint of this run needs" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_disk_without_room_is_refused_at_a_resume(
    start, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patched:
        waiting_for_data(patched, [])
        assert start()[0] == 75
    few = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: few)
    with pytest.raises(SystemExit) as stopped:
        main(["resume", str(tmp_path / "run"), "--no-evaluate"])
    assert stopped.value.code == 1
    assert "make room" in capsys.readouterr().err
    assert train.Checkpoints(tmp_path / "run" / "checkpoints").steps() == [3]


def test_a_lock_left_by_a_kill_is_taken_over_and_told(tmp_path):
    folder = tmp_path / "run"
    code = (
        "import os, pathlib, signal, sys\n"
        "from rl_jax.run.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    assert done.wait() == -signal.SIGKILL
    said = []
    with locked(folder, say=said.append):
        (line,) = said
        assert f"left locked by process {done.pid} on " in line
    with locked(folder, say=said.append):
        assert len(said) == 1, "one that ended well leaves nothing to tell"

"""A run at a standstill ends and says where; none that goes on does."""

import math
import os
import signal
import subprocess
import sys
import time

import jax
import pytest
from jax._src import compiler
from reference import jobs

from rl_jax.errors import UsageError
from rl_jax.run import watchdog
from rl_jax.run.watchdog import Watchdog

pytestmark = pytest.mark.fault


def program(*lines):
    """A process with these lines below a watchdog of half a second."""
    code = "\n".join(
        [
            "import functools, sys, time",
            "from rl_jax.run.watchdog import Watchdog",
            "def stuck():",
            "    time.sleep(60)",
            "tell = functools.partial(print, flush=True)",
            "with Watchdog(0.5, 'rl-jax resume x', leave=tell) as dog:",
            *(f"    {line}" for line in lines),
        ]
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_standstill_ends_with_the_stacks_and_one_line():
    process = program("for step in range(4, 8): dog.beat(step)", "stuck()")
    told, said = process.communicate(timeout=30)
    assert process.returncode == 5
    stacks, _, line = said.rstrip("\n").rpartition("\n")
    assert 'File "<string>", line 4 in stuck' in stacks
    assert line.startswith("rl-jax: no step for 0.5 s since step 7: waits in stuck (")
    assert "continue with: rl-jax resume x" in line
    assert line == f"rl-jax: {told.strip().removeprefix('5 ')}"


def test_the_first_step_may_take_longer():
    waits = [f"dog.beat({k}); time.sleep(0.8)" for k in (1, 2, 3)]
    process = program(*waits, "dog.beat(4)", "stuck()")
    assert "no step for 0.5 s since step 4" in process.communicate(timeout=30)[1]
    process = program("dog.beat()", "stuck()")
    assert "no step for 1.5 s since the start" in process.communicate(timeout=30)[1]


def test_slow_steps_are_no_standstill():
    process = program(
        *("for step in range(8):", "    time.sleep(0.2)", "    dog.beat(step)")
    )
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_a_process_that_was_stopped_for_longer_goes_on():
    process = program(
        *("print('ready', flush=True)", "for _ in range(10):"),
        *("    dog.beat()", "    time.sleep(0.1)"),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def ended(monkeypatch):
    """The list of exit codes that would have been."""
    codes = []
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback", lambda file: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


def test_compilation_does_not_count(monkeypatch):
    codes, slow = ended(monkeypatch), []
    compiled = compiler.backend_compile_and_load

    def slowly(*args, **kwargs):
        time.sleep(1.2)
        slow.append(1)
        return compiled(*args, **kwargs)

    monkeypatch.setattr(compiler, "backend_compile_and_load", slowly)
    x, new = jax.numpy.ones(7), time.time() % 1000  # in no cache of programs
    with Watchdog(0.6, "x"):
        jax.jit(lambda x: x * new)(x).block_until_ready()
    assert slow
    assert not codes


def test_none_is_none():
    with Watchdog(0, "x") as dog:
        dog.beat(1)
        assert dog._thread is None


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_what_is_no_time_is_refused(seconds):
    with pytest.raises(UsageError, match="--stall-timeout: expected seconds"):
        Watchdog(seconds, "x")


BLOCKED = """
import os
import threading
import numpy as np
from rl_jax import data

def load(index):
    if calls.append(1) or len(calls) > int(os.environ["AFTER"]):
        wait_for_ever()
    return np.zeros((4, 4, 1), np.uint8)

def wait_for_ever():
    threading.Event().wait()

calls = []

def blocked() -> data.Source:
    held = data.arrays(np.zeros((64, 4, 4, 1), np.uint8))
    return held._replace(images=None, load=load)
"""
SMALL = [
    *("--steps", "100000", "--batch-size", "8", "--no-evaluate", "--no-probe"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
    *("--data", "mine:blocked", "--run-dir", "run", "--stall-timeout", "4"),
]


def run(folder, *more, count, after):
    """Processes whose data block for ever after some images of each."""
    (folder / "mine.py").write_text(BLOCKED)

    def command(rank):
        code = (
            f"import os, sys; os.environ['AFTER'] = '{after[rank]}'\n"
            f"os.chdir({str(folder)!r})\n"
            "from rl_jax.run import pretrain\n"
            "pretrain.image_limit = lambda: 0\n"  # so that files are read as it goes
            "from rl_jax.cli import main; main(sys.argv[1:])"
        )
        return ["-c", code, "pretrain", "simclr", *SMALL, *more]

    return jobs.ended(jobs.start(command, count=count, devices=1), timeout=120)


@pytest.mark.slow
def test_a_run_whose_data_block_for_ever(tmp_path):
    ((code, said),) = run(tmp_path, count=1, after=[200])
    assert code == 5, said
    assert "in wait_for_ever" in said
    line = said.splitlines()[-1]
    assert "no step for 4 s since step " in line
    assert "rl-jax resume run --import mine" in line


@pytest.mark.slow
def test_of_two_processes_the_blocked_one_ends_and_so_does_the_other(tmp_path):
    first, second = run(tmp_path, "--distributed", count=2, after=[10**9, 300])
    assert (first[0], second[0]) == (5, 5), first[1] + second[1]
    assert "in wait_for_ever" in second[1]
    assert "rl-jax resume run --import mine" in second[1].splitlines()[-1]

"""The first signal asks, the second quits."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rl_jax.errors import Stopped
from rl_jax.run.signals import Interrupts


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_the_first_is_noted(number, code):
    before = signal.getsignal(number)
    with Interrupts("rl-jax resume runs/a") as interrupts:
        interrupts.poll("at step 1")
        assert not interrupts.requested()
        os.kill(os.getpid(), number)
        assert interrupts.requested()
        with pytest.raises(Stopped, match="at step 2; continue with: rl-jax") as stop:
            interrupts.poll("at step 2")
    assert stop.value.exit_code == code
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_quits_at_once(number):
    code = (
        "import os, signal, time\n"
        "from rl_jax.run.signals import Interrupts\n"
        "with Interrupts('x'):\n"
        "    os.kill(os.getpid(), NUMBER)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), NUMBER)\n"
        "    time.sleep(5)\n"
        "    print('too late', flush=True)\n"
    )
    words = [sys.executable, "-c", code.replace("NUMBER", str(int(number)))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert done.stdout == "still here\n"


def in_the_midst(arguments, signals):
    """A process in a computation that no handler of Python gets into, and its end."""
    code = (
        "import hashlib\n"
        "from rl_jax.run import signals\n"
        "signals.PATIENCE = 0.2\n"
        f"with signals.Interrupts('rl-jax x', {arguments}):\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1_000_000_000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    for number in signals:
        process.send_signal(number)
        # Two of one kind at once are one.
        time.sleep(0.1)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_quits_in_the_midst_of_a_computation(number):
    assert in_the_midst("", [signal.SIGTERM, number]) == (128 + number, "")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_what_saves_nothing_is_left_in_the_midst(number, code):
    found, said = in_the_midst("where='before it was evaluated'", [number])
    assert found == code
    name = signal.Signals(number).name
    expected = f"stopped by {name} before it was evaluated; continue with: rl-jax x"
    assert said == f"rl-jax: {expected}\n"


def test_leaves_no_thread_and_no_descriptor():
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Interrupts("x"):
            assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files

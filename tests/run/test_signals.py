"""The first signal asks, the second quits."""

import os
import signal
import subprocess
import sys

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

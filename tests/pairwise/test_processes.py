"""Two processes of four devices each compute what one device does."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from reference import assert_close

pytestmark = pytest.mark.core

SCRIPT = pathlib.Path(__file__).with_name("processes.py")


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_two_processes_equal_one_device(tmp_path):
    output, address = tmp_path / "found.npz", free_address()
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, address, "2", str(rank), output],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)

    target = jax.jit(processes.everything)(*processes.inputs(), jnp.float32(0.2))
    with np.load(output) as file:
        leaves = [file[name] for name in sorted(file)]
    found = jax.tree.unflatten(jax.tree.structure(target), leaves)
    assert_close(found, target, tolerance=1e-6, floor=0.5)

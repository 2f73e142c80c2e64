"""Two processes of four devices each compute what one device does."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import processes
import pytest
from reference import assert_close, jobs

pytestmark = pytest.mark.core

SCRIPT = pathlib.Path(__file__).with_name("processes.py")


@pytest.mark.slow
def test_two_processes_equal_one_device(tmp_path):
    output = tmp_path / "found.npz"
    for code, said in jobs.ended(jobs.start([SCRIPT, output], devices=4)):
        assert code == 0, said

    target = jax.jit(processes.everything)(*processes.inputs(), jnp.float32(0.2))
    with np.load(output) as file:
        leaves = [file[name] for name in sorted(file)]
    found = jax.tree.unflatten(jax.tree.structure(target), leaves)
    assert_close(found, target, tolerance=1e-6, floor=0.5)

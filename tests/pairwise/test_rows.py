"""Blocks of rows: which are left out, what comes back where, on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.machine import make_mesh, quick_jit, share

from rl_jax.pairwise import rows as module

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("size", "counted", "blocks"),
    [
        (4, [], 0),
        (4, [10], 1),
        (4, [0, 3, 9, 10], 1),
        (4, [0, 2, 3, 9, 10], 2),
        (4, range(11), 3),
        (10, [], 0),
        (10, range(0, 11, 2), 1),  # 11 rows are two blocks of 6, not of 10 and 1
        (10, range(7), 2),
        (1, [5, 7], 2),
        (11, [], 1),
        (99, [1], 1),
    ],
)
def test_blocks_in_which_no_row_counts_are_left_out(size, counted, blocks):
    counts = np.isin(np.arange(11), list(counted))
    x = np.arange(11, dtype=np.float32)

    def step(carry, rows):
        steps, total = carry
        value, weight = rows
        return (steps + 1, total + jnp.sum(weight * value)), weight * value

    @quick_jit
    def run(x, counts):
        carry = jnp.int32(0), jnp.float32(0)
        rows = x, counts.astype(jnp.float32)
        return module.fold(step, carry, rows, counts, size)

    (steps, total), out = run(x, counts)
    assert steps == blocks
    assert total == x[counts].sum()
    np.testing.assert_array_equal(out, np.where(counts, x, 0))


@pytest.mark.parametrize("rows", [16, 12])
def test_sums_of_all_devices(rows):
    """Where they cannot share the rows evenly, one does it for all."""
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)

    def local(x, scale, axis):
        most = jnp.full(2, -jnp.inf).at[0].set(jax.nn.logsumexp(x))
        sums = module.total(x.sum(), axis), module.total_logsumexp(most, axis)
        return (*sums, module.total(jnp.float32(1), axis)), scale * x

    mesh = make_mesh(range(8))
    with jax.set_mesh(mesh):
        x = share(mesh, x) if rows == 16 else x
        run = quick_jit(lambda x: module.over_devices(local, x, jnp.float32(2)))
        (total, logsumexp, times), doubled = run(x)
    x = np.asarray(x, np.float64)
    np.testing.assert_allclose(total, x.sum(), rtol=1e-5)
    expected = [np.log(np.exp(x).sum()), -np.inf]
    np.testing.assert_allclose(logsumexp, expected, rtol=1e-5)
    np.testing.assert_array_equal(doubled, np.float32(2 * x))
    assert times == (8 if rows == 16 else 1)

"""One of several processes that share a batch; run by test_processes.py.

    python processes.py OUTPUT

Computes every loss over pairs and its gradients on arrays cut over all devices of all
processes, and writes what the first process sees to OUTPUT.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rl_jax import losses, pairwise, train

B, D = 24, 8


def inputs():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(B, D)).astype(np.float32)
    b = a + 0.7 * rng.normal(size=(B, D)).astype(np.float32)
    return a, b, rng.integers(0, 5, B).astype(np.int32)


def everything(a, b, label, tau):
    """Value and gradients of every loss by both views and the temperature."""

    def ring(a, b, tau):
        a, b = a / 3, b / 3
        options = {"scale": 1 / tau, "implementation": "ring"}
        rows = pairwise.logsumexp(a, **options)
        both = pairwise.logsumexp(a, b, axis="both", **options)
        return jnp.mean(rows) + jnp.mean(both[0]) + jnp.mean(both[1])

    functions = {
        "nt_xent": lambda a, b, t: losses.nt_xent(a, b, temperature=t),
        "info_nce": lambda a, b, t: losses.info_nce(a, b, temperature=t),
        "clip": lambda a, b, t: losses.clip(a, b, logit_scale=1 / t),
        "sigmoid": lambda a, b, t: losses.sigmoid(a, b, logit_scale=1 / t, bias=-t),
        "sup_con": lambda a, b, t: losses.sup_con(a + b, label, temperature=t),
        "uniformity": lambda a, b, t: t * losses.uniformity(a - b),
        "ring": ring,
    }
    return {
        name: jax.value_and_grad(function, (0, 1, 2))(a, b, tau)
        for name, function in functions.items()
    }


def main(output):
    train.join()
    count, rank = jax.process_count(), jax.process_index()
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    share = slice(rank * B // count, (rank + 1) * B // count)
    shared = [
        jax.make_array_from_process_local_data(rows, x[share], x.shape)
        for x in inputs()
    ]
    with jax.set_mesh(mesh):
        found = jax.jit(everything)(*shared, jnp.float32(0.2))
    found = multihost_utils.process_allgather(found, tiled=True)
    if rank == 0:
        leaves = jax.tree.leaves(found)
        np.savez(output, **{f"leaf{i:03}": leaf for i, leaf in enumerate(leaves)})


if __name__ == "__main__":
    main(sys.argv[1])

"""How the batches of a run reach the device; the position is the step, nothing else."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import numpy as np
from jax.sharding import Mesh

from rl_jax import data
from rl_jax.train import sharding
from rl_jax.types import Batch


class Feed(NamedTuple):
    """Batches of consecutive steps.

    Attributes:
      held: arrays that stay on the device for the whole run.
      take: `(held, inputs) -> batch`, inside the compiled step.
      inputs: `(step, count) -> inputs` of `count` steps from `step` on, on the device;
        with a leading axis where count > 1. Called with consecutive steps.
      most: how many steps `inputs` can give at once.
    """

    held: dict[str, chex.Array]
    take: Callable[[dict, Any], Batch]
    inputs: Callable[[int, int], Any]
    most: int


@contextlib.contextmanager
def open_feed(
    source: data.Source,
    *,
    mesh: Mesh,
    seed: int,
    batch_size: int,
    start_step: int,
    steps: int,
    workers: int = 0,
) -> Iterator[Feed]:
    """The feed of a source: resident where it holds its images, else streamed."""
    if source.images is not None:
        yield _resident(source, mesh=mesh, seed=seed, batch_size=batch_size)
        return
    with contextlib.closing(
        data.stream(
            source,
            seed=seed,
            batch_size=batch_size,
            start_step=start_step,
            num_steps=steps - start_step,
            workers=workers,
        )
    ) as batches:
        rows = sharding.batched(mesh)

        def inputs(step, count):
            del step, count
            return sharding.put(next(batches), rows)

        yield Feed({}, lambda held, batch: batch, inputs, 1)


def _resident(source, *, mesh: Mesh, seed: int, batch_size: int) -> Feed:
    labels = source.labels
    if labels is None:
        labels = np.full(source.size, -1, np.int32)
    everywhere = sharding.replicated(mesh)
    held = sharding.put({"image": source.images, "label": labels}, everywhere)

    def take(held, index):
        return {name: rows[index] for name, rows in held.items()} | {"index": index}

    def order(step):
        return data.batch_indices(seed, step, size=source.size, batch_size=batch_size)

    def inputs(step, count):
        if count == 1:
            return sharding.put(order(step), sharding.batched(mesh))
        index = np.stack([order(step + i) for i in range(count)])
        return sharding.put(index, sharding.batched(mesh, axis=1))

    return Feed(held, take, inputs, 1_000_000)

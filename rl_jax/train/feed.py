"""How the batches of a run reach the device; the position is the step, nothing else."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import chex
import jax
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
    loading: data.Loading = data.IN_THREADS,
) -> Iterator[Feed]:
    """The feed of a source: resident where it is in memory, else streamed."""
    if data.in_memory(source):
        yield _resident(source, mesh=mesh, seed=seed, batch_size=batch_size)
        return
    rows = sharding.own_rows(mesh, batch_size)
    with contextlib.closing(
        data.stream(
            source,
            seed=seed,
            batch_size=batch_size,
            start_step=start_step,
            num_steps=steps - start_step,
            rows=rows,
            **loading._asdict(),
        )
    ) as batches:

        def inputs(step, count):
            del step, count
            return sharding.put_rows(next(batches), rows, mesh, batch_size)

        yield Feed({}, _as_it_comes, inputs, 1)


def _resident(source, *, mesh: Mesh, seed: int, batch_size: int) -> Feed:
    everywhere = sharding.replicated(mesh)
    labels = source.labels
    if labels is None:
        labels = np.full(source.size, -1, np.int32)
    arrays = {**source.fields, "label": labels}
    if source.images is not None:
        arrays["image"] = source.images
    held = sharding.put(arrays, everywhere)

    def order(step):
        return data.batch_indices(seed, step, size=source.size, batch_size=batch_size)

    def inputs(step, count):
        if count == 1:
            return sharding.put(order(step), sharding.batched(mesh))
        index = np.stack([order(step + i) for i in range(count)])
        return sharding.put(index, sharding.batched(mesh, axis=1))

    return Feed(held, _rows_of, inputs, 1_000_000)


def planned_feed(
    source: data.Source, *, mesh: Mesh, batch_size: int, resident: bool
) -> Feed:
    """The feed of a source in shapes only: nothing is read, placed or allocated.

    Args:
      source: its size and the shapes of its examples matter.
      mesh: the devices.
      batch_size: examples of one step.
      resident: whether the examples will be held on the device.
    """
    everywhere, rows = sharding.replicated(mesh), sharding.batched(mesh)

    def examples(count, where):
        return {
            name: jax.ShapeDtypeStruct((count, *shape), dtype, sharding=where)
            for name, (shape, dtype) in data.shapes(source).items()
        }

    index = jax.ShapeDtypeStruct((batch_size,), np.int32, sharding=rows)
    if resident:
        held = examples(source.size, everywhere)
        along = sharding.batched(mesh, axis=1)

        def inputs(step, count):
            if count == 1:
                return index
            return jax.ShapeDtypeStruct((count, batch_size), np.int32, sharding=along)

        return Feed(held, _rows_of, inputs, 1_000_000)
    batch = examples(batch_size, rows) | {"index": index}
    return Feed({}, _as_it_comes, lambda step, count: batch, 1)


def _rows_of(held: dict, index: chex.Array) -> Batch:
    return {name: rows[index] for name, rows in held.items()} | {"index": index}


def _as_it_comes(held: dict, batch: Batch) -> Batch:
    del held
    return batch

"""Representations of a whole data set by a trained (or untrained) method."""

import functools
from collections.abc import Callable, Sequence

import chex
import jax
import numpy as np
from jax.sharding import NamedSharding

from rl_jax import data, networks
from rl_jax.train import sharding
from rl_jax.types import Augment, Batch, Method, TrainState

Look = Callable[[Batch, Batch], dict]
"""From a batch on the host and the same on the devices to arrays [B, ...]."""


def encode(
    method: Method,
    augment: Augment,
    state: TrainState,
    source: data.Source,
    *,
    batch_size: int = 256,
    layers: bool = False,
) -> dict[str, np.ndarray]:
    """Every representation `method.encode` has, of clean examples, in order.

    On all devices that the state lies on; images that are not in memory are decoded
    meanwhile, by as many threads as there are processors.

    Args:
      method, augment: as in training; `augment.clean` standardises.
      state: its parameters and method state; evaluation mode, nothing changes.
      source: n examples.
      batch_size: examples at a time; the last batch is filled up and cut.
      layers: also `layer1`, `layer2`, ... of the encoder, first block first; otherwise
        they are not computed.

    Returns:
      `{name: float32 [n, D]}`; no reconstructions, which are as large as the data.
    """
    look = encoder(method, augment, state, layers=layers)
    (found,) = in_one_pass(source, [look], like=state.params, batch_size=batch_size)
    return found


def encoder(
    method: Method, augment: Augment, state: TrainState, *, layers: bool = False
) -> Look:
    """What `encode` makes of a batch, for `in_one_pass`."""
    run = _compiled(method, augment, layers)
    return lambda host, placed: run(state.params, state.state, placed)


def in_one_pass(
    source: data.Source,
    looks: Sequence[Look],
    *,
    like: chex.ArrayTree,
    batch_size: int = 256,
    whole: bool = False,
) -> list[dict[str, np.ndarray]]:
    """What each of `looks` makes of all examples, which are read once.

    Args:
      source: n examples.
      looks: functions of a batch.
      like: parameters; where they lie on several devices, each has a part of a batch.
      batch_size: examples at a time.
      whole: so many also where there are fewer, which then stand in it several times:
        one program does for sources of all sizes.

    Returns:
      For each of `looks` arrays [n, ...] by name, layers last.
    """
    rows = _rows_over(like)
    devices = 1 if rows is None else rows.mesh.size
    batch_size = batch_size if whole else min(batch_size, source.size)
    batch_size = -(-batch_size // devices) * devices
    starts = range(0, source.size, batch_size)
    indices = (
        np.arange(start, start + batch_size, dtype=np.int32) % source.size
        for start in starts
    )
    every: list[dict[str, np.ndarray]] = [{} for _ in looks]

    def keep(start: int, found: list[dict]) -> None:
        count = min(batch_size, source.size - start)
        for out, part in zip(every, jax.device_get(found), strict=True):
            for name, values in part.items():
                if name not in out:
                    shape = (source.size, *values.shape[1:])
                    out[name] = np.empty(shape, values.dtype)
                out[name][start : start + count] = values[:count]

    before = None
    for start, batch in zip(starts, data.batches(source, indices), strict=True):
        placed = batch if rows is None else jax.device_put(batch, rows)
        # The devices work on this one while the one before is copied.
        found = [look(batch, placed) for look in looks]
        if before is not None:
            keep(*before)
        before = start, found
    if before is not None:
        keep(*before)
    return [
        {name: out[name] for name in [n for n in out if n not in told] + told}
        for out in every
        for told in [networks.in_order(out)]
    ]


def encode_batch(method: Method, augment: Augment, params, state, batch) -> dict:
    """What `method.encode` makes of a raw batch, the image clean, without its label."""
    batch = {name: v for name, v in batch.items() if name != "label"}
    if "image" in batch:
        batch["image"] = augment.clean(batch["image"])
    return method.encode(params, state, batch)


def _rows_over(like: chex.ArrayTree) -> NamedSharding | None:
    """Rows of a batch over the devices of the mesh that all arrays lie on whole."""
    for leaf in jax.tree.leaves(like):
        where = getattr(leaf, "sharding", None)
        if isinstance(where, NamedSharding) and "data" in where.mesh.axis_names:
            return sharding.batched(where.mesh) if where.mesh.size > 1 else None
    return None


@functools.lru_cache(maxsize=4)
def _compiled(method: Method, augment: Augment, layers: bool):
    def run(params, state, batch):
        found = encode_batch(method, augment, params, state, batch)
        dropped = {"reconstruction", *([] if layers else networks.in_order(found))}
        return {name: v for name, v in found.items() if name not in dropped}

    return jax.jit(run)

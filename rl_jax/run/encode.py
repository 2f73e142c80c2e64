"""Representations of a whole data set by a trained (or untrained) method."""

import functools

import jax
import numpy as np

from rl_jax import data, networks
from rl_jax.types import Augment, Method, TrainState


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

    Args:
      method, augment: as in training; `augment.clean` standardises.
      state: its parameters and method state; evaluation mode, nothing changes.
      source: n examples.
      batch_size: examples at a time; the last batch is filled up and cut.
      layers: also `layer1`, `layer2`, ... of the encoder, first block first; otherwise
        they are not computed.

    Returns:
      `{name: float32 [n, D]}`.
    """
    run = _compiled(method, augment, layers)
    batch_size = min(batch_size, source.size)
    parts = []
    for start in range(0, source.size, batch_size):
        index = np.arange(start, start + batch_size, dtype=np.int32) % source.size
        batch = data.examples(source, index)
        parts.append(jax.device_get(run(state.params, state.state, batch)))
    told = networks.in_order(parts[0])
    return {
        name: np.concatenate([part[name] for part in parts])[: source.size]
        for name in [name for name in parts[0] if name not in told] + told
    }


def encode_batch(method: Method, augment: Augment, params, state, batch) -> dict:
    """What `method.encode` makes of a raw batch, the image clean, without its label."""
    batch = {name: v for name, v in batch.items() if name != "label"}
    if "image" in batch:
        batch["image"] = augment.clean(batch["image"])
    return method.encode(params, state, batch)


@functools.lru_cache(maxsize=4)
def _compiled(method: Method, augment: Augment, layers: bool):
    def run(params, state, batch):
        found = encode_batch(method, augment, params, state, batch)
        dropped = () if layers else networks.in_order(found)
        return {name: v for name, v in found.items() if name not in dropped}

    return jax.jit(run)

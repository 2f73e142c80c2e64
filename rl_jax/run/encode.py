"""Representations of a whole data set by a trained (or untrained) method."""

import functools

import jax
import numpy as np

from rl_jax import data
from rl_jax.types import Augment, Method, TrainState


def encode(
    method: Method,
    augment: Augment,
    state: TrainState,
    source: data.Source,
    *,
    batch_size: int = 256,
) -> dict[str, np.ndarray]:
    """Every representation `method.encode` has, of clean images, in order.

    Args:
      method, augment: as in training; `augment.clean` standardises.
      state: its parameters and method state; evaluation mode, nothing changes.
      source: n images.
      batch_size: images at a time; the last batch is filled up and cut.

    Returns:
      `{name: float32 [n, D]}`.
    """
    run = _compiled(method, augment)
    batch_size = min(batch_size, source.size)
    parts = []
    for start in range(0, source.size, batch_size):
        index = np.arange(start, start + batch_size) % source.size
        image = images(source, index)
        parts.append(jax.device_get(run(state.params, state.state, image)))
    return {
        name: np.concatenate([part[name] for part in parts])[: source.size]
        for name in parts[0]
    }


@functools.lru_cache(maxsize=4)
def _compiled(method: Method, augment: Augment):
    @jax.jit
    def run(params, state, image):
        return method.encode(params, state, {"image": augment.clean(image)})

    return run


def images(source: data.Source, index: np.ndarray) -> np.ndarray:
    """uint8 [B, H, W, C] of the given examples."""
    if source.images is not None:
        return source.images[index]
    return np.stack([source.load(int(i)) for i in index])

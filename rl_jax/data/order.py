"""Which examples step t sees: a pure function of (seed, t), and nothing to save."""

import functools
import threading

import numpy as np

from rl_jax.data.arguments import whole
from rl_jax.errors import UsageError

_lock = threading.Lock()


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which one epoch visits the examples.

    A stable argsort of raw Philox-4x64 bits with key (seed, epoch): a counter-based
    generator (Salmon et al. 2011) whose raw stream NumPy keeps fixed between versions,
    which it does not promise for `Generator.permutation`.

    Args:
      seed: in [0, 2^64).
      epoch: 0-based, in [0, 2^64).
      size: number of examples, in [1, 2^31).

    Returns:
      [size] int32, a permutation of 0 .. size-1; read-only, because it is cached.

    Raises:
      UsageError: an argument out of range.
    """
    whole("epoch_order", seed=seed, epoch=epoch, size=size)
    for name, value in (("seed", seed), ("epoch", epoch)):
        if not 0 <= value < 2**64:
            raise UsageError(f"epoch_order: {name} must be in [0, 2^64), got {value}")
    if not 1 <= size < 2**31:
        raise UsageError(f"epoch_order: size must be in [1, 2^31), got {size}")
    # Without the lock, at a new epoch every loader thread sorts the same bits.
    with _lock:
        return _order(int(seed), int(epoch), int(size))


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(size)
    order = np.argsort(bits, kind="stable").astype(np.int32)
    order.flags.writeable = False
    return order


def steps_per_epoch(size: int, batch_size: int) -> int:
    """Number of full batches in one epoch: ⌊size / batch_size⌋.

    Args:
      size: number of examples, >= 1.
      batch_size: examples per step, in [1, size].

    Returns:
      The number of steps, >= 1; the rest of the epoch is dropped.

    Raises:
      UsageError: batch_size out of range.
    """
    whole("steps_per_epoch", size=size, batch_size=batch_size)
    if batch_size < 1:
        raise UsageError(f"batch_size must be >= 1, got {batch_size}")
    if batch_size > size:
        raise UsageError(
            f"batch_size must be <= the {size} examples there are, got {batch_size}"
        )
    return size // batch_size


def batch_indices(seed: int, step: int, *, size: int, batch_size: int) -> np.ndarray:
    """The examples of one step.

    With k = ⌊size / batch_size⌋ steps in an epoch, step t takes the batch t mod k of
    `epoch_order(seed, ⌊t / k⌋, size)`; the last size mod batch_size examples of an
    epoch's order are dropped, other ones in every epoch. No example comes twice in
    an epoch, hence none in a batch.

    Args:
      seed: in [0, 2^64).
      step: 0-based global step, >= 0.
      size: number of examples.
      batch_size: examples per step, in [1, size].

    Returns:
      [batch_size] int32.

    Raises:
      UsageError: an argument out of range.
    """
    whole("batch_indices", seed=seed, step=step, size=size, batch_size=batch_size)
    steps = steps_per_epoch(size, batch_size)
    if step < 0:
        raise UsageError(f"batch_indices: step must be >= 0, got {step}")
    epoch, batch = divmod(int(step), steps)
    return epoch_order(seed, epoch, size)[batch * batch_size :][:batch_size].copy()

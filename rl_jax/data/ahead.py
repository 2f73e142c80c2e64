"""Batches of chosen examples, one after the other, decoded ahead."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

import numpy as np

from rl_jax.data.decoders import Decoders, Threads, cores
from rl_jax.data.source import Source, examples, in_memory
from rl_jax.data.stream import IN_THREADS, Loading
from rl_jax.errors import WorkerError

_AHEAD = 2


def batches(
    source: Source,
    indices: Iterable[np.ndarray],
    *,
    threads: int | None = None,
    timeout: float = IN_THREADS.timeout,
) -> Iterator[dict[str, np.ndarray]]:
    """`examples` of each index, in order; the next two are made meanwhile.

    Args:
      source: where they come from; what is held in memory needs no threads.
      indices: [B] int32 each.
      threads: decoding threads, >= 1; None: as many as processors.
      timeout: seconds that a batch may take, > 0.

    Yields:
      Batches as `examples` makes them.

    Raises:
      UsageError: threads or timeout out of range, or what `load` of the source raises.
      WorkerError: no batch in that time.
    """
    Loading(0, threads, timeout).check("batches")
    if in_memory(source):
        return (examples(source, index) for index in indices)
    return _decoded(source, iter(indices), threads or cores(), timeout)


def _decoded(source, indices, threads: int, timeout: float):
    decoders, makers = Decoders(threads), Threads(_AHEAD, "batch")
    waiting: deque[Future] = deque()
    try:
        while True:
            for index in itertools.islice(indices, _AHEAD + 1 - len(waiting)):
                waiting.append(
                    makers.submit(examples, source, index, decoders=decoders)
                )
            if not waiting:
                return
            try:
                batch = waiting.popleft().result(timeout)
            except TimeoutError:
                raise WorkerError(
                    f"data: no batch within {timeout:g} s: decoding stalled in this "
                    "process; look at the storage"
                ) from None
            yield batch
    finally:
        makers.close()
        decoders.close()

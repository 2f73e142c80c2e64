"""Batches of chosen examples, one after the other, decoded ahead."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.data.decoders import Decoders, cores
from rl_jax.data.source import Source, examples, in_memory

_AHEAD = 2


def batches(
    source: Source, indices: Iterable[np.ndarray], *, threads: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """`examples` of each index, in order; the next two are made meanwhile.

    Args:
      source: where they come from; what is held in memory needs no threads.
      indices: [B] int32 each.
      threads: decoding threads, >= 1; None: as many as processors.

    Yields:
      Batches as `examples` makes them.

    Raises:
      UsageError: threads out of range, or what `load` of the source raises.
    """
    if threads is not None:
        whole("batches", threads=threads)
        at_least("batches", threads=(threads, 1))
    if in_memory(source):
        return (examples(source, index) for index in indices)
    return _decoded(source, iter(indices), threads or cores())


def _decoded(source, indices, threads: int):
    decoders = Decoders(threads)
    makers = ThreadPoolExecutor(_AHEAD, thread_name_prefix="rl_jax-batch")
    waiting: deque[Future] = deque()
    try:
        while True:
            for index in itertools.islice(indices, _AHEAD + 1 - len(waiting)):
                waiting.append(
                    makers.submit(examples, source, index, decoders=decoders)
                )
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        makers.shutdown(wait=False, cancel_futures=True)
        decoders.close()

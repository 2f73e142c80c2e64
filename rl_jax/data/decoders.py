"""Threads that make the images of a batch together."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


class Decoders:
    """So many threads, until closed.

    A batch is shared out over all of them: the first image is ready for the device as
    soon as can be, and only the batches that are asked for lie in memory.
    """

    def __init__(self, count: int):
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="rl_jax-decode")

    def fill(self, out: np.ndarray, make: Callable[[int], np.ndarray]) -> None:
        """out[i] = make(i) for all i; the first error is raised."""
        size = max(1, -(-len(out) // (4 * self._count)))

        def part(start: int) -> None:
            for i in range(start, min(start + size, len(out))):
                out[i] = make(i)

        waiting = [self._pool.submit(part, at) for at in range(0, len(out), size)]
        try:
            for one in waiting:
                one.result()
        finally:
            for one in waiting:
                one.cancel()

    def close(self) -> None:
        """Ends the threads; what has not begun is left."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@functools.lru_cache(maxsize=1)
def of_process(count: int) -> Decoders:
    """Those of a worker process, which end with it."""
    return Decoders(count)

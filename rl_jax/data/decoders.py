"""Threads that make the images of a batch together."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

import numpy as np

from rl_jax.errors import WorkerError


def cores() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


class Threads:
    """So many threads, which call what they are given, until closed.

    Unlike those of an executor they hold no process up that ends: a read from a disk
    that does not answer may never return.
    """

    def __init__(self, count: int, name: str):
        self.count = count
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        self._open: set[Future] = set()
        self._closed = threading.Event()
        for k in range(count):
            threading.Thread(
                target=self._work, name=f"rl_jax-{name}-{k}", daemon=True
            ).start()

    def submit(self, call: Callable, *args: Any, **options: Any) -> Future:
        """What `call` will have returned, or raised."""
        future: Future = Future()
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._tasks.put((future, call, args, options))
        if self._closed.is_set():
            self._fail(future)
        return future

    def close(self) -> None:
        """Ends the threads; whoever waits for what has not been done is told so."""
        self._closed.set()
        for _ in range(self.count):
            self._tasks.put(None)
        for future in list(self._open):
            self._fail(future)

    def _fail(self, future: Future) -> None:
        with contextlib.suppress(InvalidStateError):
            future.set_exception(WorkerError("data: closed before all was read"))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, call, args, options = task
            if self._closed.is_set() or not future.set_running_or_notify_cancel():
                continue
            try:
                found = call(*args, **options)
            except BaseException as error:
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(error)
            else:
                with contextlib.suppress(InvalidStateError):
                    future.set_result(found)


class Decoders(Threads):
    """Threads over which a batch is shared out.

    The first image is ready for the device as soon as can be, and only the batches that
    are asked for lie in memory.
    """

    def __init__(self, count: int):
        super().__init__(count, "decode")

    def fill(self, out: np.ndarray, make: Callable[[int], np.ndarray]) -> None:
        """out[i] = make(i) for all i; the first error is raised."""
        size = max(1, -(-len(out) // (4 * self.count)))

        def part(start: int) -> None:
            for i in range(start, min(start + size, len(out))):
                out[i] = make(i)

        waiting = [self.submit(part, at) for at in range(0, len(out), size)]
        try:
            for one in waiting:
                one.result()
        finally:
            for one in waiting:
                one.cancel()


_lock = threading.Lock()
_of_process: dict[int, Decoders] = {}


def of_process(count: int) -> Decoders:
    """Those of a worker process, which end with it."""
    with _lock:
        if count not in _of_process:
            _of_process[count] = Decoders(count)
        return _of_process[count]

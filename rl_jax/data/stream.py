"""The batches of a run of steps, decoded ahead by threads or worker processes."""

import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.data.decoders import Decoders, cores, of_process
from rl_jax.data.order import batch_indices
from rl_jax.data.problems import Problems
from rl_jax.data.source import Source, examples, in_memory
from rl_jax.errors import RunError, UsageError, WorkerError


class Loading(NamedTuple):
    """How images are read: of no influence on which, and in what order.

    Attributes:
      workers: processes that decode, ≥ 0; 0: threads of this one do. See `stream`.
      threads: decoding threads in each process, ≥ 1; None: as many as processors.
      timeout: seconds without a batch after which the stream fails, > 0.
    """

    workers: int = 0
    threads: int | None = None
    timeout: float = 120.0

    def check(self, function: str) -> None:
        """Refuses what is out of range.

        Raises:
          UsageError: naming the function and the argument.
        """
        threads = 1 if self.threads is None else self.threads
        whole(function, workers=self.workers, threads=threads)
        at_least(function, workers=(self.workers, 0), threads=(threads, 1))
        if not 0 < self.timeout <= threading.TIMEOUT_MAX:
            long = "; use 1e9 to wait for ever" if self.timeout > 0 else ""
            raise UsageError(
                f"{function}: timeout must be > 0 seconds, got {self.timeout}{long}"
            )


IN_THREADS = Loading()
"""In threads of this process, as many as processors."""

_END = object()
_BATCHES_AT_ONCE = 2
"""While one waits for its last images, the threads begin the next."""


def stream(
    source: Source,
    *,
    seed: int,
    batch_size: int,
    start_step: int = 0,
    num_steps: int,
    rows: np.ndarray | None = None,
    workers: int = 0,
    threads: int | None = None,
    prefetch: int = 4,
    timeout: float = IN_THREADS.timeout,
) -> "Stream":
    """The batches of steps start_step .. start_step + num_steps - 1.

    The batch of a step is `batch_indices(seed, step)`, whatever `start_step`,
    `workers`, `threads` and `prefetch` are: to resume, pass the step. Grain decodes
    ahead; a source held in memory needs neither threads nor workers, and uses none.

    Args:
      source: where the images come from.
      seed: of the order, in [0, 2^64).
      batch_size: examples per step, in [1, source.size].
      start_step: the first step, >= 0; reached in constant time.
      num_steps: how many batches, >= 0.
      rows: int [R], which rows of each batch to make, in that order: each of several
        processes decodes its own. None: all.
      workers: worker processes, >= 0; 0 decodes in threads of this process, which is
        enough as long as decoders release the GIL, which Pillow does most of the time:
        many processors need several processes. These are spawned: a script must start
        from `if __name__ == "__main__":`.
      threads: decoding threads, per process, >= 1, that share out a batch; None: as
        many as processors, of which each worker has its part.
      prefetch: batches decoded ahead, per process, >= 1.
      timeout: seconds without a batch after which the stream fails.

    Returns:
      An iterator of batches as `examples` makes them, to be closed or used in a `with`
      statement.

    Raises:
      UsageError: an argument out of range.
      WorkerError: while iterating: a worker died or stalled. Every error is final.
    """
    batch_indices(seed, start_step, size=source.size, batch_size=batch_size)
    whole("stream", num_steps=num_steps, prefetch=prefetch)
    at_least("stream", num_steps=(num_steps, 0), prefetch=(prefetch, 1))
    Loading(workers, threads, timeout).check("stream")
    batch = functools.partial(_batch, source, seed, batch_size, rows)
    steps = range(start_step, start_step + num_steps)
    if in_memory(source) or not steps:
        return Stream(iter(map(batch, steps)))
    problems = source.problems if isinstance(source.problems, Problems) else None
    threads = threads or max(1, cores() // max(1, workers))
    return Stream(_Ahead(batch, problems, steps, workers, threads, prefetch, timeout))


class Stream:
    """An iterator of batches that can be closed; closed streams are exhausted."""

    def __init__(self, batches: "Iterator[dict[str, np.ndarray]] | _Ahead"):
        self._batches = batches
        close = batches.close if isinstance(batches, _Ahead) else _nothing
        # Closes at the end of the program too, before multiprocessing waits for the
        # workers.
        self._finalizer = weakref.finalize(self, close)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._finalizer.alive:
            raise StopIteration
        return next(self._batches)

    def close(self) -> None:
        """Stop decoding; end all threads, processes and shared memory of it."""
        self._finalizer()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _nothing() -> None:
    pass


def _batch(
    source: Source,
    seed: int,
    batch_size: int,
    rows: np.ndarray | None,
    step: int,
    *,
    decoders: Decoders | None = None,
) -> dict[str, Any]:
    index = batch_indices(seed, step, size=source.size, batch_size=batch_size)
    index = index if rows is None else index[rows]
    return examples(source, index, decoders=decoders)


def _batch_in_worker(batch, threads: int, problems, step: int) -> dict[str, Any]:
    found = batch(step, decoders=of_process(threads))
    return found if problems is None else found | {"problems": problems.take()}


class _Ahead:
    """Batches through Grain, handed over by a thread so that waiting has a limit.

    Grain waits for ever for a worker that is stopped or stuck.
    """

    def __init__(self, batch, problems, steps, workers, threads, prefetch, timeout):
        import grain
        from absl import flags

        # Grain reads absl flags, which fail unless something has parsed them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        self._problems = problems if workers else None
        self._decoders = None if workers else Decoders(threads)
        if workers:
            batch = functools.partial(_batch_in_worker, batch, threads, problems)
        else:
            batch = functools.partial(batch, decoders=self._decoders)
        # A dataset of steps, not of examples: the map is index-pure, so that Grain
        # can seek and slice it, and no example is lost at the end of a worker's share.
        dataset = grain.MapDataset.range(steps.start, steps.stop).map(batch)
        dataset = dataset.to_iter_dataset(
            grain.ReadOptions(min(_BATCHES_AT_ONCE, prefetch), prefetch)
        )
        self._directory = None
        if workers:
            self._directory = tempfile.mkdtemp(prefix="rl_jax_workers_")
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=workers),
                worker_init_fn=functools.partial(_start_worker, self._directory),
            )
        self._grain: Any = iter(dataset)
        self._timeout = timeout
        self._error: Exception | None = None
        self._ready: queue.Queue = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._pump, name="rl_jax-data", daemon=True
        )
        self._thread.start()

    def _pump(self) -> None:
        try:
            for batch in self._grain:
                problems = batch.pop("problems", ())
                if self._problems is not None:
                    self._problems.add(problems)
                # A copy frees the worker's shared memory now, not when the
                # collector gets to it.
                batch = {name: np.array(array) for name, array in batch.items()}
                if not self._put(batch):
                    return
            self._put(_END)
        except Exception as error:
            self._put(error)

    def _put(self, item) -> bool:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return True
        return False

    def __next__(self) -> dict[str, np.ndarray]:
        if self._error is not None:
            raise self._error
        try:
            item = self._ready.get(timeout=self._timeout)
        except queue.Empty:
            item = WorkerError(
                f"data: no batch within {self._timeout:g} s: {self._who()}; "
                "look at the storage, or raise the timeout (--data-timeout)"
            )
        if item is _END:
            item = StopIteration()
        elif isinstance(item, Exception) and not isinstance(item, RunError):
            item = _worker_error(item)
        if isinstance(item, Exception):
            self._error = item
            self.close()
            raise item
        return item

    def _workers(self) -> dict[int, int]:
        """{worker: process id} of the workers of this stream that are alive."""
        if self._directory is None or not os.path.isdir(self._directory):
            return {}
        alive = {process.pid for process in multiprocessing.active_children()}
        started = (entry.split("_") for entry in os.listdir(self._directory))
        return {int(w): int(pid) for w, pid in sorted(started) if int(pid) in alive}

    def _who(self) -> str:
        if self._directory is None:
            return "decoding stalled in this process"
        states = [
            f"worker {worker} (pid {pid}) {_state(pid)}"
            for worker, pid in self._workers().items()
        ]
        return ", ".join(states) or "no worker has started"

    def close(self) -> None:
        self._stop.set()
        # A sound worker ends after its batch. One that is stopped never would, and
        # Grain would wait 25 s for it.
        self._thread.join(timeout=0 if self._error else 5)
        if self._thread.is_alive():
            self._kill()
            self._thread.join(timeout=2)
        with contextlib.suppress(Exception):
            self._grain.close()
        self._kill()
        self._grain = iter(())
        if self._decoders is not None:
            self._decoders.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            # Grain keeps each worker's last batch, in shared memory, in a reference
            # cycle.
            gc.collect()

    def _kill(self) -> None:
        for pid in self._workers().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _worker_error(error: Exception) -> WorkerError:
    """One line about an exception that came out of Grain."""
    text = " ".join(str(error).split())
    if ended := re.search(r"exit code (-?\d+)", text):
        code = int(ended[1])
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {-code}"
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        hints = {-9: "out of memory?", -7: "is /dev/shm full?"}
        hint = f" ({hints[code]})" if code in hints else ""
        result = WorkerError(f"data: a worker process ended with {how}{hint}")
    else:
        result = WorkerError(f"data: {type(error).__name__}: {text[:500]}")
    result.__cause__ = error
    return result


def _state(pid: int) -> str:
    names = {"T": "is stopped", "t": "is stopped", "D": "waits for a disk or network"}
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat") as file:
            letter = file.read().rpartition(")")[2].split()[0]
        return names.get(letter, "is alive but has not answered")
    return "has not answered"


def _start_worker(directory: str, worker: int, workers: int) -> None:
    """Run first in every worker process: it ends with the trainer, whatever happens."""
    if sys.platform == "linux":
        import ctypes

        # PR_SET_PDEATHSIG: ends even a worker that is stopped or inside C code.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    # Ctrl-C and a scheduler's SIGTERM reach the whole group; the trainer decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The trainer logs what the workers find.
    logging.getLogger("rl_jax").disabled = True
    logging.getLogger("rl_jax.data").disabled = True
    open(os.path.join(directory, f"{worker}_{os.getpid()}"), "x").close()


def _end_after(parent) -> None:
    parent.join()
    os._exit(1)

"""The end of a job of several processes: one that fails tells the others first.

At its end a process waits for the others, and jax aborts it where they do not come; the
others wait for it in a step that never ends. So what fails is written to the store that
all of them share, each looks there once a second, and none waits for the rest.
"""

import atexit
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from rl_jax.errors import WorkerError

LOOK = 1.0
"""Seconds between two looks."""

GRACE = 5.0
"""Seconds in which a process may end by itself, with what it knows better."""

PATIENCE = 10.0
"""Seconds that the first, which holds the store, waits for the others to look."""

FAILED, GONE = "rl_jax/failed/", "rl_jax/gone/"
"""Where the first failure is, and who has ended because of it."""

CONNECTION = "Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "onnection"
"""Words of the errors that jax raises where another process has gone."""

_leaving = threading.Event()


def _store() -> Any:
    # jax has no public way to it.
    from jax._src import distributed

    return distributed.global_state.client


@contextlib.contextmanager
def meeting(seconds: float) -> Iterator[None]:
    """Ends the process where those within do not meet in time: jax would abort it."""

    def give_up() -> None:
        print(
            f"rl-jax: distributed: the processes did not meet within {seconds:g} s; "
            "see that all are started and reach the first, or wait longer by "
            "RL_JAX_START_TIMEOUT",
            file=sys.stderr,
            flush=True,
        )
        os._exit(WorkerError.exit_code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def watch() -> None:
    """Starts to look; once, when the processes have met."""
    thread = threading.Thread(target=_watch, daemon=True)
    thread.start()

    def stop() -> None:
        # Before jax takes the store away, which it does as the interpreter ends.
        _leaving.set()
        thread.join(GRACE)

    atexit.register(stop)


def _watch() -> None:
    while not _leaving.wait(LOOK):
        said = failure()
        # What fails on all of them ends each with its own message.
        if said is not None and not _leaving.wait(GRACE):
            print(f"rl-jax: {said}", file=sys.stderr)
            leave(WorkerError.exit_code, said)


def failure() -> str | None:
    """What the first process to fail has said, where that is another one."""
    with contextlib.suppress(Exception):
        for _, value in _store().key_value_dir_get(FAILED):
            rank, line = json.loads(value)
            if rank != jax.process_index():
                return f"process {rank} has stopped: {line}"
    return None


def lost(error: Exception) -> str | None:
    """Why what needs all processes failed; None where it is another error.

    Args:
      error: that was raised.
    """
    text = str(error).strip().partition("\n")[0]
    if not isinstance(error, jax.errors.JaxRuntimeError):
        return None
    if not any(word in text for word in CONNECTION):
        return None
    until = time.monotonic() + GRACE
    while (said := failure()) is None and time.monotonic() < until:
        time.sleep(LOOK / 5)
    return said or f"another process has gone without a word: {text[:200]}"


def leave(code: int, line: str) -> None:
    """Tells the others why this process ends, and ends it without waiting for them.

    Args:
      code: the exit code.
      line: what it has said.
    """
    _leaving.set()
    rank = jax.process_index()
    with contextlib.suppress(Exception):  # who was first stays
        _store().key_value_set(f"{FAILED}first", json.dumps([rank, line[:300]]))
    with contextlib.suppress(Exception):
        _store().key_value_set(f"{GONE}{rank}", "")
    if rank == 0:
        _last()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _last() -> None:
    """Waits until all have said that they go."""
    until = time.monotonic() + PATIENCE
    with contextlib.suppress(Exception):
        while len(_store().key_value_dir_get(GONE)) < jax.process_count():
            if time.monotonic() > until:
                return
            time.sleep(LOOK / 5)

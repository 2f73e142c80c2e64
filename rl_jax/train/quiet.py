"""Keeps from standard error what Orbax prints of a failed write: we say it in one line.

Orbax logs each error with its traceback before it raises it, and closes event loops
that TensorStore's threads still call, each of which prints another.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator

from rl_jax.train import event_loop

PATIENCE = 10.0
"""Seconds that a failed write is waited for, in its other threads."""

_lock = threading.Lock()
_open = contextlib.ExitStack()
_users = 0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, nothing is logged by Orbax, also by its threads; others log as before."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _open.enter_context(event_loop.finishing())
            _open.enter_context(_filtered())
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _open.close()


def join_writers() -> None:
    """Waits for Orbax's threads, which go on when one of them has failed."""
    until = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if type(thread).__module__.startswith("orbax."):
            # By the base class: Orbax's own raises what the thread has raised.
            threading.Thread.join(thread, max(until - time.monotonic(), 0))


@contextlib.contextmanager
def _filtered() -> Iterator[None]:
    logger = logging.getLogger("absl")
    logger.addFilter(_not_of_orbax)
    try:
        yield
    finally:
        logger.removeFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname

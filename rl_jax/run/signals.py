"""SIGTERM and Ctrl-C: the first asks for a checkpoint, the second quits at once."""

import os
import select
import signal
import sys
import threading

from rl_jax.errors import Stopped

PATIENCE = 5.0
"""Seconds in which a computation that saves nothing may end by itself."""


class Interrupts:
    """Notes SIGTERM and SIGINT while it is open; a context manager.

    The handler only sets a mark, so that a step, a compilation or a save is never cut
    in the middle; whoever runs polls it between pieces of work. Python calls handlers
    between two instructions of its own, and a compiled computation may take minutes:
    a thread that the system wakes sees to the second signal.

    Args:
      hint: the command that goes on.
      where: what was not reached, where nothing is lost by ending in the middle: some
        seconds after the first signal the thread then ends the process. None: never.
    """

    def __init__(self, hint: str, *, where: str | None = None):
        self._hint = hint
        self._where = where
        self._received: signal.Signals | None = None
        self._before: dict = {}

    def __enter__(self) -> "Interrupts":
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        self._waker_before = signal.set_wakeup_fd(
            self._waker, warn_on_full_buffer=False
        )
        return self

    def __exit__(self, *error) -> None:
        signal.set_wakeup_fd(self._waker_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._waker)
        self._thread.join()
        os.close(self._woken)

    def _handle(self, number, frame) -> None:
        del frame
        self._received = self._received or signal.Signals(number)

    def _watch(self) -> None:
        """Reads the numbers of signals as they come, until the other end is closed."""
        first = None
        while True:
            impatient = first is not None and self._where is not None
            ready, _, _ = select.select(
                [self._woken], [], [], PATIENCE if impatient else None
            )
            if not ready:
                stopped = Stopped(
                    self._message(first, self._where), by_user=first == signal.SIGINT
                )
                print(f"rl-jax: {stopped}", file=sys.stderr, flush=True)
                os._exit(stopped.exit_code)
            told = os.read(self._woken, 1)
            if not told:
                return
            if told[0] in (signal.SIGTERM, signal.SIGINT):
                if first is not None:
                    os._exit(128 + told[0])
                first = signal.Signals(told[0])

    def _message(self, number, where) -> str:
        return f"stopped by {number.name} {where}; continue with: {self._hint}"

    def requested(self) -> bool:
        """Whether a stop has been asked for."""
        return self._received is not None

    def poll(self, where: str) -> None:
        """Raises `Stopped` if a stop was asked for; `where` says what was reached."""
        if self._received is None:
            return
        raise Stopped(
            self._message(self._received, where),
            by_user=self._received == signal.SIGINT,
        )

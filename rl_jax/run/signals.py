"""SIGTERM and Ctrl-C: the first asks for a checkpoint, the second quits at once."""

import os
import signal

from rl_jax.errors import Stopped


class Interrupts:
    """Notes SIGTERM and SIGINT while it is open; a context manager.

    The handler only sets a mark, so that a step, a compilation or a save is never cut
    in the middle; whoever runs polls it between pieces of work.
    """

    def __init__(self, hint: str):
        self._hint = hint
        self._received: signal.Signals | None = None
        self._before: dict = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, frame) -> None:
        del frame
        if self._received is not None:
            os._exit(128 + number)
        self._received = signal.Signals(number)

    def requested(self) -> bool:
        """Whether a stop has been asked for."""
        return self._received is not None

    def poll(self, where: str) -> None:
        """Raises `Stopped` if a stop was asked for; `where` says what was reached."""
        if self._received is None:
            return
        raise Stopped(
            f"stopped by {self._received.name} {where}; continue with: {self._hint}",
            by_user=self._received == signal.SIGINT,
        )

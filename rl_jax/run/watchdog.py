"""Ends a run that has come to a standstill, and says where it stands."""

import contextlib
import faulthandler
import math
import os
import pathlib
import sys
import sysconfig
import threading
import types
from collections.abc import Callable

from rl_jax.errors import UsageError, WorkerError

TIMEOUT = 1800.0
"""Seconds without a step that no healthy run is thought to need."""

TICK = 1.0
"""Seconds between two looks."""

AT_FIRST, MEASURED = 3, 3
"""Times as long for the first calls: another process may still compile, and how many
steps fit into a call is measured first."""

COMPILER = os.path.join("jax", "_src", "compiler.py")
"""The file of jax that is on the stack while XLA compiles."""


class Watchdog:
    """Ends the process when no step has come for a time; a context manager.

    A blocked read or a collective that another process never joins cannot be broken off
    from Python. So a thread writes the stacks of all threads and one line to standard
    error, and ends the process with the exit code of a `WorkerError`.

    The time is counted in ticks of this thread, none of which is long: a process that
    was stopped or a machine that slept goes on as before. Ticks in which the main
    thread compiles are not counted, and the first ones may take longer.

    Args:
      timeout: seconds; 0: never.
      hint: the command that goes on.
      leave: called with the exit code and the line, in place of ending at once.

    Raises:
      UsageError: for a time below 0, or none.
    """

    def __init__(
        self,
        timeout: float,
        hint: str,
        *,
        leave: Callable[[int, str], None] | None = None,
    ):
        check_timeout(timeout)
        self._timeout, self._hint, self._leave = timeout, hint, leave
        self._beats, self._steps, self._step = 0, 0, None
        self._closed = threading.Event()
        self._main = threading.main_thread().ident
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watchdog":
        if self._timeout:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def beat(self, step: int | None = None) -> None:
        """Says that the run goes on, and which step it has reached."""
        self._beats += 1
        if step is not None:
            self._steps, self._step = self._steps + 1, step

    def _watch(self) -> None:
        tick = min(TICK, self._timeout / 10)
        seen, waited = self._beats, 0.0
        while not self._closed.wait(tick):
            if self._beats != seen:
                seen, waited = self._beats, 0.0
                continue
            frames = _frames(sys._current_frames().get(self._main))
            if any(f.f_code.co_filename.endswith(COMPILER) for f in frames):
                continue
            waited += tick
            limit = self._timeout * (1 if self._steps > MEASURED else AT_FIRST)
            if waited >= limit:
                self._end(limit, frames)

    def _end(self, limit: float, frames: list[types.FrameType]) -> None:
        since = "the start" if self._step is None else f"step {self._step}"
        line = (
            f"no step for {limit:g} s since {since}: {_place(frames)}; the "
            f"stacks above show all threads; continue with: {self._hint}, where it is "
            "only slow with a longer --stall-timeout"
        )
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        faulthandler.dump_traceback(sys.__stderr__ or 2)
        print(f"rl-jax: {line}", file=sys.stderr, flush=True)
        if self._leave is not None:
            self._leave(WorkerError.exit_code, line)
        os._exit(WorkerError.exit_code)


def check_timeout(seconds: float) -> None:
    """Refuses what is no time.

    Raises:
      UsageError: for a number below 0, or that is not finite.
    """
    if not 0 <= seconds < math.inf:
        raise UsageError(
            f"--stall-timeout: expected seconds, or 0 for no limit, got {seconds}"
        )


def _frames(innermost: types.FrameType | None) -> list[types.FrameType]:
    """The stack of a thread, innermost first."""
    found = []
    while innermost is not None:
        found.append(innermost)
        innermost = innermost.f_back
    return found


def _place(frames: list[types.FrameType]) -> str:
    """Where the main thread is: in code of ours or of the user's, if there is some."""
    if not frames:
        return "the main thread has ended"
    paths = sysconfig.get_paths()
    theirs = ("<frozen", paths["stdlib"], paths["purelib"], paths["platlib"])
    ours = str(pathlib.Path(__file__).parent.parent)
    names = [f.f_code.co_filename for f in frames]
    own = [
        f
        for f, name in zip(frames, names, strict=True)
        if name.startswith(ours) or not name.startswith(theirs)
    ]
    frame = (own or frames)[0]
    code = frame.f_code
    return f"waits in {code.co_name} ({code.co_filename}, line {frame.f_lineno})"

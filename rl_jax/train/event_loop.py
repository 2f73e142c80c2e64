"""Event loops that end when all they began has ended."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator


class _Finishing(asyncio.SelectorEventLoop):
    """A loop that, closed beside unfinished tasks, runs them to their end first."""

    def close(self) -> None:
        if not self.is_closed() and (tasks := asyncio.all_tasks(self)):
            self.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        super().close()


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """New event loops of Orbax are closed only when nothing in them is under way.

    Orbax reads or writes all arrays of a checkpoint at once and closes its loop at the
    first that fails. The others then find it closed, and TensorStore's threads, which
    can raise nothing, print a traceback for each.
    """
    before = asyncio.new_event_loop

    def new() -> asyncio.AbstractEventLoop:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        return _Finishing() if caller.startswith("orbax.") else before()

    asyncio.new_event_loop = new
    try:
        yield
    finally:
        asyncio.new_event_loop = before

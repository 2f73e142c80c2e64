"""One process a run: a lock the operating system takes back when the process dies."""

import contextlib
import fcntl
import os
import pathlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import IO

from rl_jax.errors import UsageError


@contextlib.contextmanager
def locked(
    folder: pathlib.Path, *, say: Callable[[str], None] = print
) -> Iterator[None]:
    """Holds the run in `folder` for this process.

    Args:
      folder: of the run.
      say: called with a line where the process before was killed while it held it.

    Raises:
      UsageError: when another process holds it, or the folder cannot be written.
    """
    path = folder / "run.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder} ({error.strerror}); choose another --run-dir"
        ) from None
    with file:
        if not _taken(file):
            file.seek(0)
            holder = file.read(1000).strip() or "another process"
            raise UsageError(
                f"{folder} is in use by {holder}; wait for it or choose another folder"
            )
        file.seek(0)
        if holder := file.read(1000).strip():
            say(f"{folder} was left locked by {holder}, which is gone: taken over")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _taken(file: IO[str]) -> bool:
    """Whether the lock is had; who only asks for it, as `rl-jax runs`, lets it go."""
    for seconds in (0.05, 0.1, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(seconds)
    return False

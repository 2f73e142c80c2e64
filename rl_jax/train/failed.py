"""What a failed read or write of a checkpoint says of it."""

from collections.abc import Callable
from typing import Any

from rl_jax.errors import RunError

UNSOUND, MAY_PASS = 1, 2
"""Why a checkpoint is not read: its content, or what says nothing of it."""


def one_line(error: BaseException) -> str:
    """The first line of what an error says."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def may_pass(error: BaseException) -> bool:
    """Whether a failed read says nothing about the checkpoint itself."""
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError | NotADirectoryError)
    text = str(error)
    passing = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE")
    return isinstance(error, MemoryError) or any(word in text for word in passing)


def how_bad(error: Exception | None) -> int:
    """Nothing, or why it is not read."""
    if error is None:
        return 0
    return MAY_PASS if may_pass(error) else UNSOUND


def attempt(read: Callable[[int], Any], step: int):
    """What can be read, or why it cannot be had."""
    try:
        return read(step), None
    except RunError:
        raise
    except Exception as error:
        return None, error

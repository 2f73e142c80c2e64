"""Errors a user can act on, each with the exit code the command line returns.

Every message is one line: what was given, what is expected, what to do.
"""

import operator
from typing import Any


class RunError(Exception):
    """An error that is reported as one line, without a traceback."""

    exit_code = 1


class UsageError(RunError, ValueError):
    """Wrong arguments or unusable data; found before anything is compiled."""

    exit_code = 2


def check_integer(name: str, value: Any) -> None:
    """Refuses what is no integer of Python, NumPy or jax: a size of 8.5, a step of 3.0.

    Raises:
      UsageError: with the name and the value.
    """
    try:
        operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be an integer, got {value!r}") from None


def known(value: Any) -> Any:
    """A value as a NumPy array, also inside a trace; None where it is traced itself."""
    import numpy as np

    try:
        return np.asarray(value)
    except TypeError:  # jax's TracerArrayConversionError
        return None


class CheckpointError(RunError):
    """Checkpoints exist and none can be used."""

    exit_code = 3


class NonFiniteError(RunError):
    """The loss or the gradient is NaN or infinite."""

    exit_code = 4


class WorkerError(RunError):
    """A data worker or another process died or stopped answering."""

    exit_code = 5


class Stopped(RunError):
    """The run was asked to stop, has saved its state, and can be continued."""

    exit_code = 75

    def __init__(self, message: str, *, by_user: bool = False):
        super().__init__(message)
        self.exit_code = 130 if by_user else 75

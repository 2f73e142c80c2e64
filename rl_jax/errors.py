"""Errors a user can act on, each with the exit code the command line returns.

Every message is one line: what was given, what is expected, what to do.
"""


class RunError(Exception):
    """An error that is reported as one line, without a traceback."""

    exit_code = 1


class UsageError(RunError, ValueError):
    """Wrong arguments or unusable data; found before anything is compiled."""

    exit_code = 2


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

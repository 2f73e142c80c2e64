"""Errors a user can act on, each with the exit code the command line returns.

Every message is one line: what was given, what is expected, what to do.
"""

import functools
import inspect
import operator
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

P = ParamSpec("P")
R = TypeVar("R")


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


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which refuses what is no array or number where it takes one.

    What a parameter takes is read from its annotation. None, texts, dictionaries and
    complex numbers are refused before the call; what often does as well as an array (a
    list, a tensor of another library), only where the call fails of it.

    Raises:
      UsageError: naming function, parameter and what was given.
    """
    signature = inspect.signature(function)
    takes = {
        name: kind
        for name, p in signature.parameters.items()
        if p.kind is not p.VAR_POSITIONAL and (kind := _kind(p.annotation))
    }

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # of the call itself, in Python's own words
            return function(*args, **kwargs)
        _refuse(function.__name__, takes, given, _never)
        try:
            return function(*args, **kwargs)
        except RunError:
            raise
        except Exception:
            _refuse(function.__name__, takes, given, _seldom)
            raise

    return call


ARRAY, EITHER, NUMBER = "an array", "an array or a number", "a number"
KEY = "a key of jax.random"


def _kind(annotation: Any) -> tuple[str, bool] | None:
    """What a parameter takes, and whether None will do; None where it is not judged."""
    import jax
    import numpy as np

    if annotation is jax.Array:  # chex.PRNGKey
        return KEY, False
    union = get_origin(annotation) in (Union, types.UnionType)
    options = get_args(annotation) if union else (annotation,)
    optional = type(None) in options
    if np.ndarray in options:
        return EITHER if float in options else ARRAY, optional
    return (NUMBER, optional) if int in options or float in options else None


def _refuse(
    name: str,
    takes: dict[str, tuple[str, bool]],
    given: dict[str, Any],
    wrong: Callable[[str, Any], str | None],
) -> None:
    for parameter, (kind, optional) in takes.items():
        value = given.get(parameter)
        if parameter not in given or (value is None and optional):
            continue
        if got := wrong(kind, value):
            raise UsageError(f"{name}: {parameter} must be {kind}, got {got}")


def _never(kind: str, value: Any) -> str | None:
    """What a value is that can be no array, number or key; None: it may be one."""
    del kind
    if value is None or isinstance(value, str | bytes | complex | dict | set):
        return repr(value)[:40]
    if getattr(getattr(value, "dtype", None), "kind", "") in ("c", "O", "S", "U"):
        return f"{value.dtype} of shape {value.shape}"
    return None


def _is_array(value: Any) -> bool:
    import jax
    import numpy as np

    return isinstance(value, np.ndarray | np.generic | jax.Array)


def _seldom(kind: str, value: Any) -> str | None:
    """What a value is that is not quite of the kind, or not of any shape."""
    shape = getattr(value, "shape", None)
    if not (_is_array(value) or isinstance(value, int | float)):
        advice = "; use numpy.asarray" if kind in (ARRAY, EITHER) else ""
        return f"{type(value).__name__}{advice}"
    if kind == ARRAY and not shape:
        return "a single number"
    if kind == NUMBER and shape:
        return f"an array of shape {shape}"
    if kind == EITHER and shape:
        return f"one of shape {shape}, which does not fit the others"
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

"""Several processes that train as one, one a host; the only file that joins them.

All run the same program, each on its own devices, and a step needs every device: what
ends a loop must be decided by all of them at the same step.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from rl_jax.errors import RunError, UsageError
from rl_jax.train import peers

NUMBERS = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Variables of the environment that say who a process is, beside the address."""

TIMEOUTS = {"RL_JAX_START_TIMEOUT": 180, "RL_JAX_HEARTBEAT_TIMEOUT": 30}
"""Variables that say after how many seconds the others are given up: those that have
not come yet, and those that no longer answer; and what they are where not set."""

PATIENCE = 60
"""Seconds that who is done, or has failed, waits for the others before it goes."""


def join() -> None:
    """Joins the processes that were started together; before anything else of jax.

    Slurm, Open MPI, Kubernetes and Cloud TPU say who they are. Elsewhere the variables
    `JAX_COORDINATOR_ADDRESS` (host:port of the first process), `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID` (from 0) do. `RL_JAX_START_TIMEOUT` and `RL_JAX_HEARTBEAT_TIMEOUT`
    are the seconds after which one that does not come, or no longer answers, ends all.

    Raises:
      UsageError: where nothing says who they are, or only a part of it.
      RunError: when they did not meet.
    """
    given = {name: os.environ.get(name) for name in NUMBERS}
    try:
        count, rank = (None if v is None else int(v) for v in given.values())
    except ValueError:
        said = ", ".join(f"{name}={value}" for name, value in given.items())
        raise UsageError(f"distributed: expected integers, got {said}") from None
    start, heartbeat = (_seconds(name) for name in TIMEOUTS)
    try:
        with peers.meeting(start):
            jax.distributed.initialize(
                num_processes=count,
                process_id=rank,
                initialization_timeout=start + PATIENCE,
                heartbeat_timeout_seconds=heartbeat,
                shutdown_timeout_seconds=PATIENCE,
            )
    except ValueError as error:
        raise UsageError(
            f"distributed: {_first_line(error)} Start the processes by Slurm or Open "
            f"MPI, or set JAX_COORDINATOR_ADDRESS, {' and '.join(NUMBERS)}"
        ) from None
    except RuntimeError as error:
        raise RunError(
            f"distributed: the processes did not meet: {_first_line(error)}"
        ) from None
    peers.watch()


def _seconds(name: str) -> int:
    said = os.environ.get(name, str(TIMEOUTS[name]))
    if not (said.isdecimal() and int(said)):
        raise UsageError(f"distributed: expected whole seconds, got {name}={said}")
    return int(said)


def joined() -> bool:
    """Whether `join` has been called."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this is the process that writes; the only one where there is one."""
    return jax.process_index() == 0


def gathered(values: np.ndarray) -> np.ndarray:
    """The array of each process, [processes, ...]; all of them have to ask."""
    if jax.process_count() == 1:
        return values[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values))


def largest(value: int) -> int:
    """The largest that any process has; all of them have to ask."""
    return int(np.max(gathered(np.array(value))))


def any_of(flag: bool) -> bool:
    """Whether it is so on any process; all of them have to ask."""
    return bool(largest(int(flag)))


def of_first(value: Any) -> Any:
    """What the first process has, of what JSON holds; all of them have to ask."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    count = int(multihost_utils.broadcast_one_to_all(np.array(len(own))))
    said = multihost_utils.broadcast_one_to_all(np.resize(own, count))
    return json.loads(bytes(np.asarray(said)))


def check_alike(**values: Any) -> None:
    """Refuses processes that would not train the same; all of them have to ask.

    Args:
      values: what decides it, of what JSON holds.

    Raises:
      UsageError: on a process that has other values than the first, naming them.
      RunError: on those that have the same, where another has not.
    """
    if jax.process_count() == 1:
        return
    first = of_first(values)
    values = json.loads(json.dumps(values))
    with together():
        names = [
            name
            for name in sorted(first.keys() | values.keys())
            if first.get(name) != values.get(name)
        ]
        if names:
            differ = "; ".join(
                f"{name} is {_brief(values, name)} here and {_brief(first, name)} there"
                for name in names[:5]
            )
            raise UsageError(
                f"process {jax.process_index()} would not train what the first does: "
                f"{differ}{'; ...' if names[5:] else ''}; start all of them alike"
            )


def _brief(values: dict[str, Any], name: str) -> str:
    said = json.dumps(values[name]) if name in values else "nothing"
    return said if len(said) <= 40 else f"{said[:37]}..."


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What fails within on one process fails on all, once they have reached its end.

    Raises:
      RunError: where it failed on other processes only.
    """
    try:
        yield
    except Exception:
        any_of(True)
        raise
    if any_of(False):
        raise RunError("another process has stopped; it says why")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

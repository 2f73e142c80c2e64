"""Steps that were not finite: what the device keeps of them, and what is said of them.

Nothing is read for it between log points: the step counts on the device, and the ids of
a batch follow from the seed and its step.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import NonFiniteError, UsageError, check_integer
from rl_jax.types import TrainState

POLICIES = ("halt", "skip")
MOST_NAMED = 6
"""Metrics that are not finite, named where a run ends."""


class Lost(NamedTuple):
    """The steps lost since the last read, on the device; int32 scalars.

    Attributes:
      count: how many.
      streak: how many the last ones were in a row, 0 where the last was finite.
      longest: the longest streak.
      step: the first of them, counted from 1; 0 where none was lost.
      leaf: what was not finite in it, a place in `leaf_names`.
    """

    count: chex.Array
    streak: chex.Array
    longest: chex.Array
    step: chex.Array
    leaf: chex.Array


class LostSteps(NamedTuple):
    """The steps lost between two reads, on the host.

    Attributes:
      after, until: the reads were after these steps.
      count, longest: how many were lost, and how many in a row.
      step: the first of them, counted from 1.
      leaf: what was not finite in it.
      index: [B] int32, the ids of its examples.
    """

    after: int
    until: int
    count: int
    longest: int
    step: int
    leaf: str
    index: np.ndarray

    def __str__(self) -> str:
        return (
            f"loss, gradient or update not finite in {self.count} of the steps "
            f"{self.after + 1} to {self.until}, first at {self.step} in {self.leaf}"
        )


def check_policy(on_nonfinite: str, limit: int) -> None:
    """Refuses a policy there is not.

    Raises:
      UsageError: naming those there are, or for a limit below 1.
    """
    if on_nonfinite not in POLICIES:
        known = ", ".join(POLICIES)
        raise UsageError(f"on_nonfinite must be one of {known}, got {on_nonfinite!r}")
    check_integer("nonfinite_limit", limit)
    if limit < 1:
        raise UsageError(f"nonfinite_limit must be at least 1, got {limit}")


def none_lost(streak: int = 0) -> Lost:
    """The record after a read; `streak` goes on."""
    zero = np.zeros([], np.int32)
    return Lost(zero, *[np.asarray(streak, np.int32)] * 2, zero, zero)


def note(lost: Lost, *, step: chex.Array, leaf: chex.Array) -> Lost:
    """The record after one more step.

    Args:
      lost: before it.
      step: its number, from 1.
      leaf: what was not finite, -1 where all was.
    """
    bad = leaf >= 0
    first = bad & (lost.count == 0)
    streak = jnp.where(bad, lost.streak + 1, 0)
    return Lost(
        count=lost.count + bad,
        streak=streak,
        longest=jnp.maximum(lost.longest, streak),
        step=jnp.where(first, step, lost.step),
        leaf=jnp.where(first, leaf, lost.leaf),
    )


def inexact(tree: chex.ArrayTree) -> list[tuple[tuple, chex.Array]]:
    """Path and leaf of all that can be NaN."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(p, x) for p, x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]


def leaf_names(ts: TrainState) -> list[str]:
    """What `train_step` looks at, in its order: gradients, the new state, the loss."""
    key = jax.tree_util.keystr
    names = [f"the gradient of params{key(p)}" for p, _ in inexact(ts.params)]
    for part in ("params", "state", "opt_state"):
        names += [f"the new {part}{key(p)}" for p, _ in inexact(getattr(ts, part))]
    return [*names, "the norm of the gradient", "the loss"]


def error(lost: LostSteps, row: dict, *, limit: int | None) -> NonFiniteError:
    """What ends a run.

    Args:
      lost: the steps.
      row: metrics of the last step.
      limit: steps in a row that were too many; None where one is.
    """
    first = ("loss", "grad_norm")
    # Of the loss's terms and the method's other metrics those that tell where it began.
    others = [k for k, v in row.items() if k not in first and not math.isfinite(v)]
    told = [*first, *others[:MOST_NAMED]]
    named = ", ".join(f"{name} {row[name]:g}" for name in told)
    many = "" if limit is None else f", {lost.longest} in a row with {limit} allowed"
    return NonFiniteError(
        f"{lost} (at {lost.until}: {named}){many}; their updates were skipped and the "
        "state saved without them; start a new run with a lower learning rate or "
        "higher temperature, and see that all labels are below the number of classes"
    )

"""Wall time of several contenders in interleaved rounds, and its statistics.

A-B-A-B: every contender is timed once a round, so that what changes on the machine
during the run (its clock, its other users) falls on all alike. A sample is the mean of
as many calls as fill 50 ms. Contenders much slower than the first sit out rounds.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

Contender = Callable[[int], float]
"""`calls -> seconds of one call`, the mean over that many."""

SAMPLE_SECONDS = 0.05
MOST_CALLS = 500
FEWEST_ROUNDS, MOST_ROUNDS = 5, 30
FEWEST_SAMPLES = 3


def jax_contender(f: Callable, *args, queued: bool = False) -> Contender:
    """Times `f(*args)`.

    Args:
      f: a jitted function.
      *args: its arguments.
      queued: wait once for all calls, not after each: the time of an accelerator whose
        launches overlap with its work. On CPU a call must be waited for.
    """

    def run(calls: int) -> float:
        start = time.perf_counter()
        out = None
        for _ in range(calls):
            out = f(*args)
            if not queued:
                jax.block_until_ready(out)
        jax.block_until_ready(out)
        return (time.perf_counter() - start) / calls

    return run


def interleave(
    contenders: Mapping[str, Contender],
    *,
    seconds: float,
    rounds: int | None = None,
    pause: float = 0.2,
) -> dict[str, dict]:
    """Times all contenders in interleaved rounds.

    Args:
      contenders: by name, compiled and warm; the first is the one the others are
        compared with.
      seconds: what the rounds may take together; decides their number.
      rounds: their number, if it is fixed.
      pause: seconds of rest before each sample, in which the threads of the one before
        stop waiting for work.

    Returns:
      For each name `seconds`, every sample in the order taken, and `calls` of a sample.
    """
    one = {}
    for name, run in contenders.items():
        one[name] = run(1)
        if one[name] < 1:
            one[name] = min(run(1), run(1))
    calls = {
        n: min(max(1, round(SAMPLE_SECONDS / t)), MOST_CALLS) for n, t in one.items()
    }
    cost = {n: calls[n] * t + pause for n, t in one.items()}
    reference = next(iter(cost.values()))
    every = {n: math.ceil(c / (8 * reference)) for n, c in cost.items()}
    fixed = rounds is not None
    if rounds is None:
        affordable = int(seconds / sum(c / every[n] for n, c in cost.items()))
        rounds = min(max(affordable, FEWEST_ROUNDS), MOST_ROUNDS)
    most = max(1, (rounds - 1) // (FEWEST_SAMPLES - 1))
    every = {n: min(k, most) for n, k in every.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + 1.5 * seconds
    for k in range(rounds):
        if not fixed and k >= FEWEST_ROUNDS and time.perf_counter() > end:
            break  # the first calls promised more than the others kept
        # Another one goes first each round: nobody always follows the same neighbour.
        order = list(contenders)
        order = order[k % len(order) :] + order[: k % len(order)]
        for name in order:
            if k % every[name] == 0:
                time.sleep(pause)
                found[name].append(contenders[name](calls[name]))
    return {n: {"seconds": s, "calls": calls[n]} for n, s in found.items()}


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, minimum and spread: the interquartile range over the median."""
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {
        "median": float(median),
        "min": float(min(seconds)),
        "spread": float((high - low) / median),
    }

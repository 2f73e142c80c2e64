"""How far the host runs ahead of the device, and when processes ask each other to stop.

Compiled steps are queued long before they are done. A stop would wait for all of them,
and with several processes every one has to stop at the same step: so the host waits for
the device, and asks the others, every few seconds; how many steps that is, is measured.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import chex
import jax
import numpy as np

from rl_jax.train import processes

SECONDS = 5.0
"""Between two waits; so long may a stop take, beside the save."""

MOST_SCANNED = 64
"""Steps of one compiled call; more would save nothing that can be measured."""


def scanned_steps(log_every: int) -> int:
    """Steps of one call: one on CPU, where a convolution in a loop is slow.

    Elsewhere a part of those up to a log point, so that single steps are left over only
    where it has no part of a fit size.
    """
    return 1 if jax.default_backend() == "cpu" else part_of(log_every, MOST_SCANNED)


def part_of(whole: int, most: int) -> int:
    """The largest divisor up to `most`; `most` itself where that is below its half."""
    if whole <= most:
        return whole
    divisor = max(d for d in range(1, most + 1) if whole % d == 0)
    return divisor if 2 * divisor > most else most


class Pace:
    """Waits for the device now and then, and says whether all processes stop.

    Args:
      step: where the run goes on.
      stop: whether this process is asked to stop; None: never.
      most: steps of one compiled call.
      adapts: whether calls that take too long are made of fewer steps.
    """

    def __init__(
        self,
        step: int,
        stop: Callable[[], bool] | None,
        *,
        most: int,
        adapts: bool = False,
    ):
        self.most = most
        self._stop, self._adapts = stop, adapts
        self._counts: set[int] = set()
        self._gap = 1
        self._begin(step, measured=False)

    def _begin(self, step: int, *, measured: bool = True) -> None:
        self._from, self._next = step, step + self._gap
        self._start, self._aside, self._measured = time.monotonic(), 0.0, measured

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens within is no part of the steps' time."""
        start = time.monotonic()
        yield
        self._aside += time.monotonic() - start

    def count(self, left: int) -> int:
        """Steps of the next call, where so many are left to where the host reads."""
        count = self.most if self.most <= left else 1
        # A call of a new length is compiled first.
        self._measured &= count in self._counts
        self._counts.add(count)
        return count

    def asked(self) -> bool:
        """Whether to stop now, where there is no other process to agree with."""
        alone = jax.process_count() == 1
        return alone and self._stop is not None and self._stop()

    def stops(self, step: int, result: chex.ArrayTree) -> bool:
        """Whether to stop after this step; several processes all get the same answer.

        Args:
          step: that the call has reached; all processes ask after the same calls.
          result: of the call; waited for when it is time.
        """
        asked = self._stop is not None and self._stop()
        alone = jax.process_count() == 1
        if step < self._next:
            return asked and alone
        jax.block_until_ready(result)
        spent = time.monotonic() - self._start - self._aside
        seconds = max(spent, 1e-6) / (step - self._from)
        # The first process decides, so that the next question is one of all.
        said = np.array([asked, seconds if self._measured else -1.0], np.float32)
        said = processes.gathered(said)
        seconds = float(said[0, 1])
        if seconds > 0:
            # At most twice as many at a time: the steps before may have been lucky.
            self._gap = max(1, min(2 * self._gap, int(SECONDS / seconds)))
            if self._adapts and self.most * seconds > 2 * SECONDS:
                self.most = part_of(self.most, max(1, int(SECONDS / seconds)))
        self._begin(step)
        return bool(np.any(said[:, 0] > 0))

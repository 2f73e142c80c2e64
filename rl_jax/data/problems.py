"""Which files of a source could not be decoded, and when they are too many."""

import logging
import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_jax.errors import UsageError
from rl_jax.files import printable

_log = logging.getLogger("rl_jax.data")
# One lock for all: a lock of its own would keep a `Problems` from being pickled
# for the worker processes.
_lock = threading.Lock()
_GOOD, _BAD = 1, 2
_NAMED = 20


class Problems:
    """Which files could be decoded so far; the `problems` of a source of files.

    Each undecodable file is logged once. Files count once, however often they are
    read. More undecodable ones than `max_bad` allows of all files are an error; a
    single one never is. Where so many of the first 100 or more are that all of them
    surely have too many, by four standard deviations, it is one at once.
    """

    def __init__(self, source: str, names: Sequence[str], max_bad: float):
        self._source, self._names, self._max_bad = source, names, max_bad
        self._state = np.zeros(len(names), np.uint8)
        self._taken = self._state.copy()
        self._reasons: dict[int, str] = {}
        self._seen = 0

    def __call__(self) -> dict[str, Any]:
        """The counts, and the first 20 names in the order they were met."""
        with _lock:
            bad = list(self._reasons)
            names = tuple(printable(self._names[i]) for i in bad[:_NAMED])
            return {"seen": self._seen, "bad": len(bad), "names": names}

    def bad_at(self, index):
        """Whether a file is known to be undecodable; index: int or int array."""
        return self._state[index] == _BAD

    def shown_at(self, index: np.ndarray) -> np.ndarray:
        """Which file's image is shown for each of [B]: its own or a stand-in's.

        For one that cannot be decoded it is the next in order that can be.
        """
        shown = np.array(index)
        for _ in self._names:
            bad = self.bad_at(shown)
            if not bad.any():
                break
            shown[bad] = (shown[bad] + 1) % len(self._names)
        return shown

    def record(self, index: int, reason: str | None = None) -> None:
        """Note that a file was decoded, or with a reason, that it could not be."""
        with _lock:
            if self._state[index]:
                return
            self._seen += 1
            self._state[index] = _GOOD if reason is None else _BAD
            if reason is not None:
                self._reasons[index] = reason
                name = printable(self._names[index])
                _log.warning("%s: cannot decode %s: %s", self._source, name, reason)
            bad, seen = len(self._reasons), self._seen
        expected = self._max_bad * seen
        surely = seen >= 100 and bad > 1 + expected + 4 * math.sqrt(expected)
        if surely or bad > max(1, self._max_bad * len(self._names)):
            first = ", ".join(self()["names"][:3])
            raise UsageError(
                f"{self._source}: {bad} of the {seen} files read cannot be decoded, "
                f"of {len(self._names)} in all, more than max_bad={self._max_bad:g} "
                f"allows; remove them or raise max_bad: {first}"
                f"{', ...' if bad > 3 else ''}"
            )

    def take(self) -> list[tuple[int, str | None]]:
        """What was recorded since the last call, for `add` in another process."""
        with _lock:
            new = np.flatnonzero(self._state != self._taken)
            self._taken[new] = self._state[new]
            return [(int(i), self._reasons.get(int(i))) for i in new]

    def add(self, records: Sequence[tuple[int, str | None]]) -> None:
        """Record what `take` returned in another process."""
        for index, reason in records:
            self.record(index, reason)

"""What a benchmark of a device that is at hand for minutes is run in.

A result that is saved as it grows, the time that is left, PyTorch beside it.
"""

import contextlib
import importlib.util
import pathlib
import sys
import time
from collections.abc import Callable

import jax

from profiling import results
from profiling.peers import PeerError, TorchPeer


class Bench:
    """A result that is saved as it grows, and the time that is left."""

    def __init__(self, result: dict, out: pathlib.Path, budget: float):
        self.result, self.out = result, out
        self._end = time.perf_counter() + budget

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._end - time.perf_counter()

    def attempt(self, name: str, measure: Callable[[], None], *, needs: float = 0.0):
        """Runs one measurement unless it needs more time than is left; saves.

        A card is at hand for minutes: whatever fails is named, and the rest goes on.
        """
        reason = f"needs about {needs:.0f} s, {max(self.left, 0):.0f} s are left"
        if self.left > needs:
            try:
                measure()
                reason = None
            except Exception as error:
                reason = in_words(error)
        if reason:
            self.skip(name, reason)
        print(f"{name}: {reason or 'done'}; {self.left:.0f} s left", file=sys.stderr)
        results.save(self.result, self.out)

    def skip(self, name: str, reason: str) -> None:
        """Names what was not measured, and why."""
        self.result["skipped"].append({"what": name, "reason": reason})


def in_words(error: BaseException) -> str:
    """An error as one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def start_torch(python, result: dict, stack: contextlib.ExitStack) -> TorchPeer | None:
    """PyTorch in a process of its own on the same device, or None."""
    if python is None and importlib.util.find_spec("torch"):
        python = sys.executable
    if python is None:
        result["notes"].append("PyTorch is not installed here: not measured.")
        return None
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    try:
        torch = stack.enter_context(TorchPeer(python, device))
    except PeerError as error:
        result["notes"].append(f"PyTorch was not measured: {error}.")
        return None
    result["torch"] = torch.info
    return torch


def memory_limit() -> int:
    """Bytes that jax may take of the device."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", 8 * 10**9)

"""What a benchmark of a device that is at hand for minutes is run in.

A result that is saved as it grows, the time that is left, PyTorch beside it.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import sys
import time
from collections.abc import Callable

import jax

from profiling import arguments, results
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


def begin(
    parser: argparse.ArgumentParser, chosen: argparse.Namespace, name: str, **settings
) -> Bench:
    """What a benchmark of an accelerator writes to, `--budget` from now.

    Args:
      parser: says so where there is none and `--tiny` was not asked for.
      chosen: what was parsed: out, budget and tiny.
      name: of the benchmark.
      **settings: that stand in the result beside these.
    """
    # PyTorch's process needs its share of the card; jax reads this at its first array.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    need_accelerator(parser, chosen)
    out = chosen.out
    if out is None and os.environ.get("OUT"):
        out = pathlib.Path(os.environ["OUT"])
    settings |= {"budget_seconds": chosen.budget, "tiny": chosen.tiny}
    result = results.new(name, **settings)
    result |= {"skipped": [], "torch": None}
    if chosen.tiny:
        result["notes"].append(
            "A trial of the script on tiny sizes: figures of no use."
        )
    return Bench(result, results.folder(out), chosen.budget)


def need_accelerator(
    parser: argparse.ArgumentParser, chosen: argparse.Namespace
) -> None:
    """Ends the program where there is none and `--tiny` was not asked for."""
    if jax.default_backend() == "cpu" and not chosen.tiny:
        parser.error("there is no accelerator here; --tiny tries the script out")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that benchmarks of an accelerator share."""
    positive = arguments.positive
    parser.add_argument("--budget", type=positive, default=560, metavar="SECONDS")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    parser.add_argument("--tiny", action="store_true", help="a trial, also on CPU")


def in_words(error: BaseException) -> str:
    """An error as one short line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "not compiled in time"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def leave() -> None:
    """Ends a process whose results are written, whatever is still being compiled."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


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

"""Peers in other processes: PyTorch, timed in the same interleaved rounds.

This is one end; `worker.py` is the other, or `torch_agreement.py` where values are
compared and nothing is timed.
"""

import contextlib
import json
import math
import os
import pathlib
import select
import subprocess
import threading

import numpy as np

from profiling.timing import Contender

WORKER = pathlib.Path(__file__).parent / "worker.py"


class PeerError(Exception):
    """The peer could not do what was asked."""


BUSY = 30
"""Seconds that a request waits for another thread's to be answered."""
CHECKED_IN = 90
"""Seconds that a loss may take to be compiled, tuned and checked, or timed."""
PATIENT = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""Threads of OpenMP otherwise go on spinning for a while, into the time of the next."""


class TorchPeer:
    """A process with PyTorch that holds inputs, checks a loss and times it.

    Args:
      python: interpreter that has torch.
      device: cpu or cuda.
      worker: the script at the other end; None: `worker.py`.

    Raises:
      PeerError: where it does not start.
    """

    def __init__(
        self, python: str, device: str = "cpu", *, worker: pathlib.Path | None = None
    ):
        self.device = device
        self._turn = threading.Lock()
        self._command = [python, str(worker or WORKER), device]
        self._start()

    def _start(self) -> None:
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                self._command, stdin=pipe, stdout=pipe, env=os.environ | PATIENT
            )
        except OSError as error:
            reason = f"{self._command[0]} does not start: {error.strerror}"
            raise PeerError(reason) from error
        try:
            self.info, _ = self._exchange({"do": "hello"}, ())
        except PeerError:
            self.close()
            raise
        del self.info["shapes"]

    def __enter__(self):
        """The peer itself; leaving ends its process."""
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def load(self, *arrays: np.ndarray) -> None:
        """Hands over the inputs, once for all calls that follow."""
        self._ask({"do": "load"}, arrays)

    def value_and_grad(self, loss: str, **options):
        """`(value, [gradients])` at the inputs."""
        request = _request("check", loss, options)
        reply, grads = self._ask(request, limit=CHECKED_IN)
        return reply["value"], grads

    def compare(self, name: str, arrays, *, wrt: int, options: dict):
        """What a function of another library makes of these arrays.

        Args:
          name: of the function there, see `torch_agreement.py`.
          arrays: float32.
          wrt: the gradients are by so many leading arrays.
          options: what it is called with.

        Returns:
          `(value, [gradients])`, or with `wrt` 0 `(None, [the array itself])`.

        Raises:
          PeerError: where it failed.
        """
        request = {"do": "compare", "name": name, "wrt": wrt, "options": options}
        reply, found = self._ask(request, arrays, limit=CHECKED_IN)
        return reply.get("value"), found

    def contender(self, loss: str, **options) -> Contender:
        """The function that times this loss here."""

        def run(calls: int) -> float:
            request = _request("time", loss, options) | {"calls": calls}
            return self._ask(request, limit=CHECKED_IN)[0]["seconds"]

        return run

    def prepare_step(self, config: dict, *, compile: bool, limit: float) -> dict:
        """Builds the training step of a configuration and runs it a few times.

        Steps of several configurations stay there, each under its name.

        Args:
          config: the fields of `profiling.step.Config`.
          compile: whether with `torch.compile`.
          limit: seconds it may take.

        Returns:
          `loss` and `seconds`.

        Raises:
          PeerError: where it failed or took longer; the process is then another one
            that has nothing prepared.
        """
        request = {"do": "prepare_step", "config": config, "compile": compile}
        reply, _ = self._ask(request, limit=limit)
        return {name: reply[name] for name in ("loss", "seconds")}

    def step_contender(self, name: str, part: str, steps: int) -> Contender:
        """What times so many steps, or as many times the `augmentation` of one.

        Args:
          name: of the configuration that was prepared.
          part: step or augmentation.
          steps: in one call.
        """

        def run(calls: int) -> float:
            request = {"do": "time_step", "name": name, "part": part}
            request |= {"calls": calls * steps}
            return steps * self._ask(request)[0]["seconds"]

        return run

    def drop_step(self, name: str) -> None:
        """Frees the memory of the training step of a configuration."""
        self._ask({"do": "drop_step", "name": name})

    def _ask(self, request: dict, arrays=(), *, limit: float | None = None):
        """One request at a time, whichever thread it comes from."""
        if not self._turn.acquire(timeout=BUSY):
            raise PeerError(f"PyTorch was busy with something else for {BUSY} s")
        try:
            return self._exchange(request, arrays, limit)
        finally:
            self._turn.release()

    def _exchange(self, request: dict, arrays, limit: float | None = None):
        assert self._process.stdin
        assert self._process.stdout
        shapes = [list(x.shape) for x in arrays]
        try:
            line = json.dumps(request | {"shapes": shapes}).encode() + b"\n"
            self._process.stdin.write(line)
            for x in arrays:
                self._process.stdin.write(np.ascontiguousarray(x, np.float32).tobytes())
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], limit)[0]:
                self._process.kill()
                self.close()
                self._start()
                raise PeerError(f"PyTorch took longer than {limit:.0f} s")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            code = self._process.wait()
            raise PeerError(f"the PyTorch process ended with exit code {code}")
        reply = json.loads(answer)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply, [self._read(shape) for shape in reply["shapes"]]

    def _read(self, shape):
        assert self._process.stdout
        data = self._process.stdout.read(4 * math.prod(shape))
        return np.frombuffer(data, np.float32).reshape(shape)


def _request(do: str, loss: str, options: dict) -> dict:
    default = {"dtype": "float32", "compile": False}
    return default | options | {"do": do, "loss": loss}

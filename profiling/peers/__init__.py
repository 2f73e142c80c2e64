"""The other end of `worker.py`: PyTorch timed in the same interleaved rounds."""

import contextlib
import json
import math
import os
import pathlib
import subprocess

import numpy as np

from profiling.timing import Contender

WORKER = pathlib.Path(__file__).parent / "worker.py"


class PeerError(Exception):
    """The peer could not do what was asked."""


PATIENT = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
"""Threads of OpenMP otherwise go on spinning for a while, into the time of the next."""


class TorchPeer:
    """A process with PyTorch that holds inputs, checks a loss and times it.

    Args:
      python: interpreter that has torch.
      device: cpu or cuda.

    Raises:
      PeerError: where it does not start.
    """

    def __init__(self, python: str, device: str = "cpu"):
        command = [python, str(WORKER), device]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, env=os.environ | PATIENT
            )
        except OSError as error:
            raise PeerError(f"{python} does not start: {error.strerror}") from error
        try:
            self.info, _ = self._ask({"do": "hello"})
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
        self._process.wait()

    def load(self, *arrays: np.ndarray) -> None:
        """Hands over the inputs, once for all calls that follow."""
        self._ask({"do": "load"}, arrays)

    def value_and_grad(self, loss: str, **options):
        """`(value, [gradients])` at the inputs."""
        reply, grads = self._ask(_request("check", loss, options))
        return reply["value"], grads

    def contender(self, loss: str, **options) -> Contender:
        """The function that times this loss here."""

        def run(calls: int) -> float:
            request = _request("time", loss, options) | {"calls": calls}
            return self._ask(request)[0]["seconds"]

        return run

    def _ask(self, request: dict, arrays=()):
        assert self._process.stdin
        assert self._process.stdout
        shapes = [list(x.shape) for x in arrays]
        try:
            line = json.dumps(request | {"shapes": shapes}).encode() + b"\n"
            self._process.stdin.write(line)
            for x in arrays:
                self._process.stdin.write(np.ascontiguousarray(x, np.float32).tobytes())
            self._process.stdin.flush()
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

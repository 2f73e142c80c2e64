"""Several processes that are one job."""

import os
import socket
import subprocess
import sys


def free_address() -> str:
    """An address of this host that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def start(command, *, count: int = 2, devices: int = 2) -> list[subprocess.Popen]:
    """Starts a Python program once for each process, on CPU devices of its own.

    Args:
      command: what follows `python`, or a function from the rank to that.
      count: processes.
      devices: of each.
    """
    job = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COORDINATOR_ADDRESS": free_address(),
        "JAX_NUM_PROCESSES": str(count),
    }
    flags = job.get("XLA_FLAGS", "").split()
    job["XLA_FLAGS"] = " ".join(f for f in flags if "device_count" not in f)
    return [
        subprocess.Popen(
            [
                sys.executable,
                *map(str, command(rank) if callable(command) else command),
            ],
            env=job | {"JAX_PROCESS_ID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes, *, timeout: float = 240) -> list[tuple[int, str]]:
    """The exit code of each, and what it said."""
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return list(zip((p.returncode for p in processes), said, strict=True))

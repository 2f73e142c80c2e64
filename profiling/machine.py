"""What a benchmark ran on: its name, versions, and its own limits."""

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from profiling import timing

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve")
GEMM_SHAPES = ((2048, 2048, 2048), (4096, 2048, 4096), (4096, 4096, 512))
EXP_SIDES = (256, 512, 1024)


def slug() -> str:
    """The folder of this machine's results, such as `nvidia-h200`."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return _slug(device.device_kind)
    return _slug(f"{_cpu_model()} {cores()} cores")


def describe() -> dict:
    """Device, cores, versions and commit, as they stand in a result."""
    devices = jax.devices()
    out = {
        "slug": slug(),
        "device": f"{devices[0].device_kind} ({devices[0].platform})",
        "devices": len(devices),
        "cpu": _cpu_model(),
        "cores": cores(),
        "features": [f for f in FEATURES if f in _cpu_features()],
        "memory_gb": round(_memory_bytes() / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()},
        "commit": _commit(),
    }
    for name in PACKAGES:
        out["versions"][name] = importlib.metadata.version(name)
    return out


def sentence(machine: dict) -> str:
    """One line for the head of a table."""
    what = machine["cpu"] if "cpu" in machine["device"] else machine["device"]
    with_features = ", ".join(machine["features"])
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    return (
        f"{what}, {machine['cores']} cores ({with_features}), "
        f"{machine['memory_gb']} GB; {versions}; commit {machine['commit']}"
    )


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float:
    """Load average of the last minute; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def ceilings(*, seconds: float = 6.0, shrink: int = 1) -> dict[str, float]:
    """The float32 GEMM rate and the exp rate that this CPU sustains.

    Args:
      seconds: about what it takes.
      shrink: divides the sizes, for a trial.

    Returns:
      `gemm`, FLOP/s of the best of a few large products, and `exp`, exponentials per
      second with their sum, on an array that lies in cache, over all cores.
    """
    shapes = [tuple(max(n // shrink, 8) for n in shape) for shape in GEMM_SHAPES]
    sides = [max(n // shrink, 8) for n in EXP_SIDES]
    share = seconds / (len(shapes) + len(sides))
    gemm = max(_gemm_rate(*shape, seconds=share) for shape in shapes)
    exp = max(_exp_rate(side, seconds=share) for side in sides)
    return {"gemm": gemm, "exp": exp}


def _gemm_rate(n: int, k: int, m: int, *, seconds: float) -> float:
    rng = np.random.default_rng(0)
    a, b = (
        jnp.asarray(rng.standard_normal(shape, np.float32))
        for shape in ((n, k), (k, m))
    )
    return 2 * n * k * m / _best(jax.jit(jnp.dot), a, b, seconds=seconds)


def _exp_rate(side: int, *, seconds: float, repeats: int = 64) -> float:
    """Σ exp over a square tile, again and again in one call."""

    def sums(x):
        def again(total, k):
            return total + jnp.exp(x + k).sum(1), None

        # The shift differs each time, or the loop would be hoisted away.
        shifts = -jnp.arange(repeats, dtype=jnp.float32) / repeats
        return lax.scan(again, jnp.zeros(side), shifts)[0]

    x = jnp.asarray(np.random.default_rng(0).uniform(-20, 0, (side, side)), jnp.float32)
    return repeats * side**2 / _best(jax.jit(sums), x, seconds=seconds)


def _best(f, *args, seconds: float) -> float:
    run = timing.jax_contender(f, *args)
    run(1)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        best = min(best, run(1))
    return best


def _slug(text: str) -> str:
    text = re.sub(r"\((r|tm|c)\)|@.*ghz|\b(processor|cpu)\b", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def _cpu_info() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_info(), re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _cpu_features() -> set[str]:
    pattern = r"^(?:flags|Features)\s*:\s*(.+)$"
    found = re.search(pattern, _cpu_info(), re.MULTILINE)
    return set(found.group(1).split()) if found else set()


def _memory_bytes() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _commit() -> str:
    """The commit measured, with `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    here = pathlib.Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"

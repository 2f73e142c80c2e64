"""Strict settings for every test: eight CPU devices, no silent broadcasting.

Most programs of a test run once, so they are compiled in a hurry, to slow code;
`--optimized` compiles them as those of a user are.
"""

import contextlib
import gc
import os
import pathlib
import resource
import subprocess
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(__file__).parent.parent / ".cache" / "xla"),
)

import jax  # noqa: E402
import pytest  # noqa: E402
from reference.machine import QUICK  # noqa: E402

# Programs are kept for as long as a worker lives, a million objects and more: to look
# through them all after every 7,000 new ones takes a twentieth of the time.
gc.freeze()
gc.set_threshold(10_000, 20, 50)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

IN_A_HURRY = (
    *(f"--{name}={value}" for name, value in QUICK.items()),
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",  # jaxlib 0.10 compiles faster without
)


def pytest_addoption(parser):
    parser.addoption(
        "--optimized",
        action="store_true",
        help="compile programs as a user's are: minutes more to compile, less to run",
    )


def pytest_configure(config):
    """Flags in the environment: workers and programs started by tests have them too."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if not any("host_platform_device_count" in flag for flag in flags):
        flags.append("--xla_force_host_platform_device_count=8")
    if not config.option.optimized and IN_A_HURRY[0] not in flags:
        flags += known(IN_A_HURRY)
    os.environ["XLA_FLAGS"] = " ".join(flags)


def known(flags):
    """Those that this jaxlib has: XLA ends the process at any other."""
    parse = "from jaxlib import xla_client; xla_client.CompileOptions()"
    tried = [
        subprocess.Popen(
            [sys.executable, "-c", parse],
            env=os.environ | {"XLA_FLAGS": flag},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for flag in flags
    ]
    codes = [process.wait() for process in tried]
    return [flag for flag, code in zip(flags, codes, strict=True) if code == 0]


@pytest.fixture
def no_cache(monkeypatch):
    """Commands must not move the compilation cache of the tests."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")


@pytest.fixture
def small_disk():
    """A context in which no file grows beyond 4,096 bytes."""

    @contextlib.contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited

"""`rl-jax doctor`: is this machine ready?"""

import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
from collections.abc import Sequence

from rl_jax.cli import options
from rl_jax.errors import RunError, UsageError

DRIVER = "/proc/driver/nvidia/version"
SHARED_MEMORY = "/dev/shm"


class _Unwell(RunError):
    """A check failed."""


def doctor(argv: Sequence[str]) -> None:
    """Checks the installation and the machine."""

    def command(path: pathlib.Path = pathlib.Path(".")) -> None:
        """Prints versions, devices, disk, decode speed and self-tests.

        Of the loss against float64, and of a sum over all devices. What does not fit
        together is told beside it: an NVIDIA GPU that jax does not see, a package older
        than this one needs.

        Args:
          path: folder whose disk is looked at.
        """
        if not path.is_dir():
            raise UsageError(f"doctor: --path {path} is no folder; name one there is")
        import jax

        from rl_jax import data
        from rl_jax.data.decoders import cores
        from rl_jax.pairwise import mosaic_gpu
        from rl_jax.run.environment import environment

        found = environment() | {"driver": _driver(pathlib.Path(DRIVER))}
        for name, value in found.items():
            if value is not None:
                print(f"{name:<18}{value}{_too_old(name)}")
        for module, extra in (("simplejpeg", "fast"), ("tensorboardX", "tb")):
            found = importlib.util.find_spec(module) is not None
            hint = "yes" if found else f"no (pip install 'rl-jax[{extra}]')"
            print(f"{module:<18}{hint}")
        print(f"{'cores':<18}{cores()} for this process, of {os.cpu_count()}")
        free = shutil.disk_usage(path).free / 1e9
        print(f"{'free disk':<18}{free:.1f} GB in {path.absolute()}")
        if os.path.isdir(SHARED_MEMORY):
            free = shutil.disk_usage(SHARED_MEMORY).free / 1e9
            print(f"{'shared memory':<18}{free:.1f} GB free, for --workers")
        print(f"{'decode':<18}{data.decode_speed(None):.0f} JPEG images/s, one core")
        reason = mosaic_gpu.available("exp") or mosaic_gpu.available("softplus")
        print(f"{'Hopper kernels':<18}{reason or 'yes'}")
        error = loss_error()
        print(f"{'nt_xent':<18}{error:.1e} relative error against float64")
        wrong = sum_error()
        said = f"off by {wrong:g}" if wrong else "right"
        print(f"{'sum over devices':<18}{said}, over {jax.device_count()}")
        if not error < 1e-5:
            raise _Unwell(
                f"nt_xent is off by {error:.1e} on this machine, expected below 1e-5; "
                "check the jax and jaxlib versions above"
            )
        if wrong:
            raise _Unwell(
                f"a sum over {jax.device_count()} devices is off by {wrong:g}; check "
                "their connection, and the jax and jaxlib versions above"
            )

    options.parse(command, prog="rl-jax doctor", argv=argv)


def sum_error() -> float:
    """How far a sum over all devices is off, of whole numbers that float32 can hold."""
    import jax
    import numpy as np

    from rl_jax import train

    count = jax.device_count()
    numbers = np.arange(64 * count) % 7
    mesh = train.data_mesh()
    rows = jax.device_put(
        numbers.astype(np.float32), jax.NamedSharding(mesh, jax.P("data"))
    )
    found = jax.jit(lambda x: x.sum(), out_shardings=jax.NamedSharding(mesh, jax.P()))(
        rows
    )
    expected = int(numbers.sum())
    return max(abs(float(s.data) - expected) for s in found.addressable_shards)


def _driver(path: pathlib.Path) -> str | None:
    """The driver of an NVIDIA GPU; None where there is none."""
    import jax

    try:
        words = path.read_text().split("\n")[0]
    except OSError:
        return None
    version = re.search(r"\d+\.\d+[.\d]*", words)
    said = f"NVIDIA {version[0]}" if version else words
    if jax.default_backend() == "gpu":
        return said
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        if name in os.environ:
            return f"{said}, which jax does not see: {name}={os.environ[name]!r} is set"
    return f"{said}, which jax does not see: pip install 'rl-jax[cuda13]'"


def _too_old(name: str) -> str:
    """What to say of a package that is not of a version this one needs."""
    try:
        needed = importlib.metadata.requires("rl-jax") or ()
    except importlib.metadata.PackageNotFoundError:  # a folder on the path
        needed = ()
    for text in needed:
        found = re.fullmatch(rf"{name}>=([\d.]+)", text.replace(" ", ""))
        if found and _numbers(importlib.metadata.version(name)) < _numbers(found[1]):
            return f", too old: pip install '{name}>={found[1]}'"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def loss_error() -> float:
    """Largest relative error of NT-Xent and its gradient against NumPy float64."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from rl_jax import losses

    rng = np.random.default_rng(0)
    pairs, dim, tau = 700, 32, 0.2
    a, b = rng.normal(size=(2, pairs, dim))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    z = np.stack([a, b], 1).reshape(-1, dim)
    s = z @ z.T / tau
    np.fill_diagonal(s, -np.inf)
    e = np.exp(s - 1 / tau)
    total = e.sum(1, keepdims=True)
    partner = np.stack([b, a], 1).reshape(-1, dim)
    value = np.mean(np.log(total[:, 0]) + 1 / tau - (z * partner).sum(1) / tau)
    p = e / total
    dz = ((p + p.T) @ z - 2 * partner) / (tau * len(z))
    dz -= (dz * z).sum(1, keepdims=True) * z

    f = jax.jit(
        jax.value_and_grad(
            lambda a, b: losses.nt_xent(a, b, temperature=tau), argnums=(0, 1)
        )
    )
    found, (da, db) = f(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    grad = np.stack([da, db], 1).reshape(-1, dim)
    return max(
        abs(float(found) - value) / value,
        float(np.abs(grad - dz).max() / np.abs(dz).max()),
    )

"""`rl-jax doctor`: is this machine ready?"""

import importlib.util
import os
import pathlib
import shutil
from collections.abc import Sequence

from rl_jax.cli import options
from rl_jax.errors import RunError, UsageError


class _Unwell(RunError):
    """A check failed."""


def doctor(argv: Sequence[str]) -> None:
    """Checks the installation and the machine."""

    def command(path: pathlib.Path = pathlib.Path(".")) -> None:
        """Prints versions, devices, disk, decode speed and a self-test of the loss.

        Args:
          path: folder whose disk is looked at.
        """
        if not path.is_dir():
            raise UsageError(f"doctor: --path {path} is no folder; name one there is")
        from rl_jax import data
        from rl_jax.pairwise import mosaic_gpu
        from rl_jax.run.environment import environment

        for name, value in environment().items():
            print(f"{name:<18}{value}")
        for module, extra in (("simplejpeg", "fast"), ("tensorboardX", "tb")):
            found = importlib.util.find_spec(module) is not None
            hint = "yes" if found else f"no (pip install 'rl-jax[{extra}]')"
            print(f"{module:<18}{hint}")
        print(f"{'cores':<18}{os.cpu_count()}")
        free = shutil.disk_usage(path).free / 1e9
        print(f"{'free disk':<18}{free:.1f} GB in {path.absolute()}")
        print(f"{'decode':<18}{data.decode_speed(None):.0f} JPEG images/s, one core")
        reason = mosaic_gpu.available("exp") or mosaic_gpu.available("softplus")
        print(f"{'Hopper kernels':<18}{reason or 'yes'}")
        error = loss_error()
        print(f"{'nt_xent':<18}{error:.1e} relative error against float64")
        if not error < 1e-5:
            raise _Unwell(
                f"nt_xent is off by {error:.1e} on this machine, expected below 1e-5; "
                "check the jax and jaxlib versions above"
            )

    options.parse(command, prog="rl-jax doctor", argv=argv)


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

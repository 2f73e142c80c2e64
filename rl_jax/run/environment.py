"""The versions and devices a run was made with."""

import importlib.metadata
import platform
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def environment() -> dict[str, Any]:
    """Python, package versions, platform and devices."""
    from rl_jax import __version__

    devices = jax.devices()
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "rl_jax": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        **versions,
    }

"""How fast one device can multiply and move bytes: from data sheets, or measured."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Rates(NamedTuple):
    """Of one device.

    Attributes:
      half: operations per second on products of 16-bit operands.
      single: the same on wider ones, at jax's default precision.
      bandwidth: bytes per second between the device and its memory.
      origin: where the numbers come from.
    """

    half: float
    single: float
    bandwidth: float
    origin: str


# Peaks without sparsity. float32 products run as TF32 on NVIDIA GPUs and as one
# bfloat16 pass on TPUs, unless a precision is asked for. NVIDIA's data sheets of the
# H200 (2024), H100 (2023) and A100 (2021; of its 40 GB form 2020); Google Cloud's pages
# on the TPU versions, for a chip, which jax shows as one device.
KNOWN = (
    ("H200", Rates(989e12, 495e12, 4.8e12, "NVIDIA's data sheet of the H200")),
    ("H100 PCIe", Rates(756e12, 378e12, 2.0e12, "NVIDIA's data sheet of the H100")),
    ("H100", Rates(989e12, 495e12, 3.35e12, "NVIDIA's data sheet of the H100")),
    ("A100-PCIE-40GB", Rates(312e12, 156e12, 1.555e12, "NVIDIA's data sheet")),
    ("A100-SXM4-40GB", Rates(312e12, 156e12, 1.555e12, "NVIDIA's data sheet")),
    ("A100", Rates(312e12, 156e12, 2.039e12, "NVIDIA's data sheet of the A100")),
    ("TPU v4", Rates(275e12, 275e12, 1.228e12, "Google's page on TPU v4")),
    ("TPU v5 lite", Rates(197e12, 197e12, 0.819e12, "Google's page on TPU v5e")),
    ("TPU v5e", Rates(197e12, 197e12, 0.819e12, "Google's page on TPU v5e")),
    ("TPU v5", Rates(459e12, 459e12, 2.765e12, "Google's page on TPU v5p")),
    ("TPU v6 lite", Rates(918e12, 918e12, 1.64e12, "Google's page on TPU v6e")),
    ("TPU v6e", Rates(918e12, 918e12, 1.64e12, "Google's page on TPU v6e")),
)
"""Part of a `device_kind`, and its rates; the first that fits counts."""


def rates_of(
    device: Any,
    *,
    peak_flops: float | None = None,
    bandwidth: float | None = None,
) -> Rates:
    """The rates of a device; what is given replaces what is known or measured.

    Args:
      device: looked up by its kind, else measured, which takes about a second.
      peak_flops: operations per second, for operands of any width.
      bandwidth: bytes per second.
    """
    if peak_flops is not None and bandwidth is not None:
        return Rates(peak_flops, peak_flops, bandwidth, "as given")
    found = known(device.device_kind) or measured(device)
    if peak_flops is not None:
        origin = f"the first as given, the second {found.origin}"
        return Rates(peak_flops, peak_flops, found.bandwidth, origin)
    if bandwidth is not None:
        origin = f"the first {found.origin}, the second as given"
        return found._replace(bandwidth=bandwidth, origin=origin)
    return found


def known(kind: str) -> Rates | None:
    """The rates of a kind of device, by jax's name for it; None where not known."""
    for name, rates in KNOWN:
        if name in kind:
            return rates._replace(origin=f"from {rates.origin}")
    return None


@functools.cache
def measured(device: Any) -> Rates:
    """Rates reached here by one matrix product of each width, and by one copy."""
    size, count = 2048, 1 << 25
    ones = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    product = jax.jit(lambda x: x @ x)
    single = 2 * size**3 / _seconds(product, ones)
    half = 2 * size**3 / _seconds(product, ones.astype(jnp.bfloat16))
    # 128 MB in and out, more than most caches hold; in place, or the time would be that
    # of the system finding fresh pages.
    long = jax.device_put(jnp.ones((count,), jnp.float32), device)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    bandwidth = 2 * 4 * count / _seconds(add, long, again=True)
    return Rates(half, single, bandwidth, "measured here on one device")


def _seconds(f, x: Any, *, budget: float = 0.25, again: bool = False) -> float:
    """The fastest call within the budget, after one that compiles.

    With `again` each call takes what the one before returned.
    """
    y = jax.block_until_ready(f(x))
    best, end = float("inf"), time.perf_counter() + budget
    while (start := time.perf_counter()) < end:
        y = jax.block_until_ready(f(y if again else x))
        best = min(best, time.perf_counter() - start)
    return best

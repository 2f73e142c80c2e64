"""The same reductions with the rows shared out over the devices of the context mesh.

Two ways to see the others' rows: `gather` takes them all at once, `ring` passes them on
from device to device; `owner` is the former by kernels. Without a mesh, with one device
or inside somebody else's `shard_map`, this is the one-device path.
"""

import functools

import chex
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from rl_jax.errors import UsageError
from rl_jax.pairwise import gather, mosaic_gpu, owner, ring, streaming, tiles
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan

AXIS = "data"
GATHER_LIMIT = 2**30
"""Bytes of rows that a device gathers without being asked; beyond, the ring."""


def devices() -> int:
    """Over how many devices the context mesh shares rows; 1: not at all."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or AXIS not in mesh.shape:
        return 1
    if dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[AXIS] != AxisType.Auto:
        return 1
    return mesh.shape[AXIS]


def check(name: str, x: chex.Array, y: chex.Array | None, use_ring: bool | None):
    """Refuses rows that the devices cannot share evenly, or that JAX will not let them.

    Raises:
      UsageError: naming both numbers, or the kind of the mesh's axis.
    """
    check_axes(name, *(rows for rows in (x, y) if rows is not None))
    count = devices()
    if len(x) % count:
        raise UsageError(
            f"{name}: {len(x)} rows are not divisible by the {count} devices of the "
            f"mesh axis {AXIS!r}; use a multiple of {count}, or leave the mesh"
        )
    if use_ring and y is not None and len(y) % count:
        raise UsageError(
            f"{name}: a ring shares out y too, but its {len(y)} rows are not divisible "
            f"by {count} devices; use a multiple of {count}, or implementation='xla'"
        )


def check_axes(name: str, *arrays: chex.Array) -> None:
    """Refuses arrays whose type says that their rows lie on several devices.

    Raises:
      UsageError: naming the kind of mesh that does it.
    """
    for x in arrays:
        sharding = jax.typeof(x).sharding
        rows = sharding.spec[0] if len(sharding.spec) else None
        if AxisType.Explicit in sharding.mesh.axis_types and rows is not None:
            raise UsageError(
                f"{name}: the rows are shared out over an axis of an explicit mesh, "
                "whose products JAX leaves to the caller; make the mesh with "
                "axis_types=(jax.sharding.AxisType.Auto,), as train.data_mesh() does"
            )


def sums(plan: Plan, given: Operands, *, use_ring: bool | None):
    """As `streaming.sums`; those of columns are shared out where y is."""
    if devices() == 1:
        return _either(mosaic_gpu.sums, streaming.sums, plan, given, use_ring)
    shared = ways(given.x, given.y, use_ring)[1]
    row, column = PartitionSpec(AXIS), PartitionSpec(AXIS if shared else None)
    specs, out = (_specs(given, column),), (row, column) if plan.both else row

    def over(local):
        return lambda plan, given: _map(
            functools.partial(local, plan, axis=AXIS), (given,), specs, out
        )

    two = map(over, _locals("sums", given, use_ring))
    return _either(*two, plan, given, use_ring), None


def gradients(
    plan: Plan, given: Operands, bars: Cotangents, kept=None, *, use_ring: bool | None
) -> Gradients:
    """As `streaming.gradients`."""
    if devices() == 1:
        both = mosaic_gpu.gradients, streaming.gradients
        return _either(*both, plan, given, use_ring, bars, kept)
    shared = ways(given.x, given.y, use_ring)[1]
    row, everywhere = PartitionSpec(AXIS), PartitionSpec()
    column = row if shared else everywhere
    specs = (
        _specs(given, column),
        Cotangents((row, row), bars.columns and (column, column)),
    )
    out = Gradients(
        row,
        column if plan.with_y else None,
        everywhere if plan.with_total else None,
        everywhere if plan.with_value else None,
    )

    def over(local):
        return lambda plan, given: _map(
            functools.partial(local, plan, axis=AXIS), (given, bars), specs, out
        )

    two = map(over, _locals("gradients", given, use_ring))
    return _either(*two, plan, given, use_ring)


def _locals(name: str, given: Operands, use_ring: bool | None):
    """What a device does of `sums` or `gradients`: by the kernels, and without them."""
    passed, shared = ways(given.x, given.y, use_ring)
    ours = functools.partial(
        getattr(owner, name), getattr(mosaic_gpu, name), shared=shared
    )
    if passed:
        return ours, functools.partial(getattr(ring, name), count=devices())
    plain = functools.partial(getattr(gather, name), count=devices(), shared=shared)
    return ours, plain


def _either(kernels, plain, plan: Plan, given: Operands, use_ring, *rest):
    """By the kernels where they are used, and the program runs on what has them."""
    if not uses_kernels(plan, given, use_ring):
        return plain(plan, given, *rest)
    if plan.kernels:
        return kernels(plan, given, *rest)
    # The default device is a GPU; that of this program may be another one.
    return jax.lax.platform_dependent(
        cuda=lambda: kernels(plan, given, *rest),
        default=lambda: plain(plan, given, *rest),
    )


def uses_kernels(plan: Plan, given: Operands, use_ring: bool | None) -> bool:
    """Whether the kernels for Hopper GPUs do it, as asked for or by themselves."""
    if plan.kernels is False or no_kernels(plan, given, use_ring) is not None:
        return False
    if plan.kernels:
        return True
    large = mosaic_gpu.worthwhile(plan, given, devices())
    return large and mosaic_gpu.usable(plan.kind)


def no_kernels(plan: Plan, given: Operands, use_ring: bool | None) -> str | None:
    """Why the kernels cannot do this here; None: they can, on Hopper GPUs."""
    reason = mosaic_gpu.supports(plan, given, devices())
    if reason is None and tiles.inside_shard_map():
        reason = "they are not for the inside of a shard_map"
    if reason is None and devices() > 1 and ways(given.x, given.y, use_ring)[0]:
        reason = "rows that are passed from device to device are not theirs"
    return reason


def ways(
    x: chex.Array, y: chex.Array | None, use_ring: bool | None
) -> tuple[bool, bool]:
    """Whether rows go around a ring, and whether y is shared out."""
    other = x if y is None else y
    same = len(other) == len(x)
    divides = len(other) % devices() == 0
    if use_ring is None:
        large = other.size * other.dtype.itemsize > GATHER_LIMIT
        use_ring = large and same
    return (True, True) if use_ring and divides else (False, same)


def _specs(given: Operands, column: PartitionSpec) -> Operands:
    row, everywhere = PartitionSpec(AXIS), PartitionSpec()
    specs = Operands(
        x=row,
        y=column,
        scale=everywhere,
        offset=everywhere,
        shift=everywhere,
        bias=column,
        exclude=row,
        group=column,
    )
    return Operands(
        *(None if v is None else s for v, s in zip(given, specs, strict=True))
    )


def _map(f, args, specs, out):
    args = jax.tree.map(jnp.asarray, args)
    return jax.shard_map(
        f, in_specs=specs, out_specs=out, axis_names={AXIS}, check_vma=False
    )(*args)

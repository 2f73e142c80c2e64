"""The same reductions with the rows shared out over the devices of the context mesh.

Row-owner: every device gathers the other rows once (`all_gather`) and reduces its own
rows against them, so forward and backward need no exchange of partial sums of rows. Its
own block is a triangle, the others' a rectangle without any mask. Columns of a
rectangle are summed over the devices. Without a mesh, with one device, inside somebody
else's `shard_map`, or where the rows do not divide, this is the one-device path.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from rl_jax.pairwise import streaming

AXIS = "data"


def _devices(*rows: int) -> int:
    """Over how many devices the context mesh shares these rows; 1: not at all."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or AXIS not in mesh.shape:
        return 1
    if dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[AXIS] != AxisType.Auto:
        return 1
    count = mesh.shape[AXIS]
    return count if all(n % count == 0 for n in rows) else 1


def _map(f, args, specs, out):
    """`shard_map` over the data axis; specs and out: True where rows are shared out."""
    spec = {True: PartitionSpec(AXIS), False: PartitionSpec()}
    return jax.shard_map(
        f,
        in_specs=tuple(spec[s] for s in specs),
        out_specs=jax.tree.map(lambda s: spec[s], out),
        axis_names={AXIS},
        check_vma=False,
    )(*args)


def _others(x: chex.Array) -> chex.Array:
    """All rows but this device's, starting with its right neighbour's."""
    everyone = lax.all_gather(x, AXIS, tiled=True)
    own = lax.axis_index(AXIS) * len(x)
    return jnp.roll(everyone, -own, axis=0)[len(x) :]


def _fit(tiles: streaming.Tiles, rows: int, columns: int) -> streaming.Tiles:
    return tiles._replace(
        rows=min(tiles.rows, rows), columns=min(tiles.columns, columns)
    )


def triangle_lse(z: chex.Array, *, scale, shift, tiles) -> chex.Array:
    """As `streaming.triangle_lse`."""
    if _devices(len(z)) == 1:
        return streaming.triangle_lse(z, scale=scale, shift=shift, tiles=tiles)

    def local(z, scale, shift):
        options = {"scale": scale, "shift": shift, "tiles": _fit(tiles, len(z), len(z))}
        own = streaming.triangle_lse(z, **options)
        rest = {"valid": None, "exclude": None, "both": False}
        other = streaming.rectangle_lse(z, _others(z), **options, **rest)
        return jnp.logaddexp(own, other)

    return _map(local, (z, scale, shift), (True, False, False), True)


def triangle_gradient(z, lse, g, *, scale, shift, tiles) -> chex.Array:
    """As `streaming.triangle_gradient`."""
    if _devices(len(z)) == 1:
        return streaming.triangle_gradient(
            z, lse, g, scale=scale, shift=shift, tiles=tiles
        )

    def local(z, lse, g, scale, shift):
        options = {"scale": scale, "shift": shift, "tiles": _fit(tiles, len(z), len(z))}
        own = streaming.triangle_gradient(z, lse, g, **options)
        other = [_others(v) for v in (z, lse, g)]
        rest = {"valid": None, "exclude": None, "with_y": False}
        dz, _ = streaming.rectangle_gradient(
            z, other[0], lse, g, other[1], other[2], **options, **rest
        )
        return own + dz

    specs = (True, True, True, False, False)
    return _map(local, (z, lse, g, scale, shift), specs, True)


def rectangle_lse(x, y, *, scale, shift, tiles, valid, exclude, both):
    """As `streaming.rectangle_lse`; y [M, D] is shared out only where M = N."""
    shared = len(y) == len(x)
    if _devices(len(x)) == 1:
        return streaming.rectangle_lse(
            x, y, scale=scale, shift=shift, tiles=tiles, valid=valid,
            exclude=exclude, both=both,
        )  # fmt: skip

    def local(x, y, scale, shift, valid, exclude):
        y = lax.all_gather(y, AXIS, tiled=True) if shared else y
        out = streaming.rectangle_lse(
            x, y, scale=scale, shift=shift, tiles=_fit(tiles, len(x), len(y)),
            valid=valid, exclude=exclude, both=both,
        )  # fmt: skip
        if not both:
            return out
        rows, columns = out
        peak = lax.pmax(columns, AXIS)
        peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
        total = lax.psum(jnp.exp(columns - peak), AXIS)
        return rows, jnp.log(total) + peak

    args = (x, y, scale, shift, valid, exclude)
    specs = (True, shared, False, False, False, True)
    return _map(local, args, specs, (True, False) if both else True)


def rectangle_gradient(
    x, y, lse, g, lse_columns, g_columns, *, scale, shift, tiles, valid, exclude, with_y
):
    """As `streaming.rectangle_gradient`."""
    shared = len(y) == len(x)
    options = {"tiles": tiles, "with_y": with_y}
    if _devices(len(x)) == 1:
        return streaming.rectangle_gradient(
            x, y, lse, g, lse_columns, g_columns, scale=scale, shift=shift,
            valid=valid, exclude=exclude, **options,
        )  # fmt: skip

    def local(x, y, lse, g, lse_columns, g_columns, scale, shift, valid, exclude):
        y = lax.all_gather(y, AXIS, tiled=True) if shared else y
        fitted = options | {"tiles": _fit(tiles, len(x), len(y))}
        dx, dy = streaming.rectangle_gradient(
            x, y, lse, g, lse_columns, g_columns, scale=scale, shift=shift,
            valid=valid, exclude=exclude, **fitted,
        )  # fmt: skip
        if dy is None:
            return dx, None
        if shared:
            return dx, lax.psum_scatter(dy, AXIS, tiled=True)
        return dx, lax.psum(dy, AXIS)

    args = (x, y, lse, g, lse_columns, g_columns, scale, shift, valid, exclude)
    specs = (True, shared, True, True, False, False, False, False, False, True)
    return _map(local, args, specs, (True, shared if with_y else False))

"""The mesh over all devices, and where a run's arrays lie on it."""

import chex
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rl_jax.errors import UsageError


def data_mesh(devices=None) -> Mesh:
    """One axis `data` over all devices; the batch is cut along it.

    Automatic axes: explicit ones would make every product of the model name its layout.
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh(
        (len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array: parameters, statistics, queues."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """Rows along `axis` are shared out over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def check_mesh(mesh: Mesh) -> None:
    """Refuses a mesh that the arrays of a run cannot lie on.

    Raises:
      UsageError: naming its axes, and the mesh there should be.
    """
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if kinds.get("data") != AxisType.Auto:
        raise UsageError(
            f"expected a mesh with an automatic axis `data`, got {kinds}; use "
            "train.data_mesh()"
        )


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Raises:
      UsageError: naming the nearest sizes that work.
    """
    count = mesh.shape["data"]
    if batch_size % count:
        below = batch_size // count * count
        raise UsageError(
            f"batch size {batch_size} is not divisible by {count} devices; use "
            + (f"{below} or {below + count}" if below else f"{count}")
        )


def put(tree: chex.ArrayTree, sharding: NamedSharding) -> chex.ArrayTree:
    """Places host arrays, of which every process has all."""

    def place(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])

    return jax.tree.map(place, tree)


def own_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Numbers of the rows of a batch that lie on devices of this process, ascending."""
    every = np.arange(batch_size)
    parts = batched(mesh).addressable_devices_indices_map(every.shape).values()
    return np.unique(np.concatenate([every[part] for part in parts if part]))


def put_rows(
    tree: chex.ArrayTree, rows: np.ndarray, mesh: Mesh, batch_size: int
) -> chex.ArrayTree:
    """Places a batch of which every process has its `own_rows`, in that order."""

    def place(x):
        def part(index):
            start, stop, _ = index[0].indices(batch_size)
            first = np.searchsorted(rows, start)
            return x[(slice(first, first + stop - start), *index[1:])]

        shape = (batch_size, *x.shape[1:])
        return jax.make_array_from_callback(shape, batched(mesh), part)

    return jax.tree.map(place, tree)

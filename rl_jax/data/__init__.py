"""Sources of examples; the batch of every step as a pure function of (seed, step)."""

from rl_jax.data.arrays import arrays, npz
from rl_jax.data.decode import decode_speed
from rl_jax.data.digits import digits
from rl_jax.data.fingerprint import difference, fingerprint
from rl_jax.data.folder import folder
from rl_jax.data.order import batch_indices, epoch_order, steps_per_epoch
from rl_jax.data.records import records
from rl_jax.data.source import (
    Problems,
    Source,
    contents,
    examples,
    fits,
    in_memory,
    labels_at,
    resident,
    rows,
    shapes,
)
from rl_jax.data.stream import Stream, stream

__all__ = [
    "Problems",
    "Source",
    "Stream",
    "arrays",
    "batch_indices",
    "contents",
    "decode_speed",
    "difference",
    "digits",
    "epoch_order",
    "examples",
    "fingerprint",
    "fits",
    "folder",
    "in_memory",
    "labels_at",
    "npz",
    "records",
    "resident",
    "rows",
    "shapes",
    "steps_per_epoch",
    "stream",
]

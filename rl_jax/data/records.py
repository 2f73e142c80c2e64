"""Sources of examples that are not stored images: tokens, sequences, vectors."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from rl_jax.data.arrays import (
    as_array,
    checked_labels,
    digest,
    named_classes,
    of_kind,
)
from rl_jax.data.source import Source
from rl_jax.errors import UsageError


def records(
    fields: Mapping[str, np.ndarray],
    labels: np.ndarray | None = None,
    *,
    name: str = "records",
    class_names: Sequence[str] | None = None,
    vocabulary: Sequence[str] = (),
    held_out: Source | None = None,
) -> Source:
    """A source of examples that are not stored images: tokens, sequences, vectors.

    Args:
      fields: arrays by the name they have in a batch, each [n, ...] with n >= 1, of an
        integer or floating-point dtype (held as int32 and float32), finite. Input
        vectors of methods that take images are called `image`.
      labels: [n] integers in [-1, 2^20), -1 where unknown; or None.
      name: what logs and run records call it.
      class_names: the name of each label; None: the label's digits.
      vocabulary: the token of each id in `tokens`.
      held_out: the part kept for testing, with the same fields.

    Returns:
      A source without images, held in memory.

    Raises:
      UsageError: wrong type, shape or range.
    """
    given = {key: as_array(v, key, name) for key, v in fields.items()}
    held = {key: _checked_field(v, key, name) for key, v in given.items()}
    reserved = {"index", "label", "views"} & set(held)
    sizes = {len(v) for v in held.values()}
    if reserved or len(sizes) != 1:
        shapes = ", ".join(f"{key} {v.shape}" for key, v in held.items()) or "none"
        raise UsageError(
            f"{name}: expected fields with a row for each example, none of them called "
            f"index, label or views, got {shapes}"
        )
    (size,) = sizes
    tokens = held.get("tokens")
    if tokens is not None and not 0 <= tokens.min() <= tokens.max() < len(vocabulary):
        raise UsageError(
            f"{name}: tokens must be ids of the {len(vocabulary)} in vocabulary, got "
            f"{tokens.min()} .. {tokens.max()}"
        )
    if labels is not None:
        labels = checked_labels(as_array(labels, "labels", name), size, name)
    if held_out is not None:
        ours, theirs = ({k: v.shape[1:] for k, v in f.items()}
                        for f in (held, held_out.fields))  # fmt: skip
        if ours != theirs:
            raise UsageError(
                f"{name}: held-out fields must be {ours} like the others, got {theirs}"
            )
    return Source(
        name=name,
        size=size,
        image_shape=(),
        load=functools.partial(_no_image, name),
        labels=labels,
        class_names=named_classes(labels, class_names, held_out, name),
        held_out=held_out,
        digest=functools.partial(digest, *held.values(), labels),
        fields=held,
        vocabulary=tuple(vocabulary),
    )


def _no_image(name: str, index: int) -> np.ndarray:
    raise UsageError(f"{name}: there are no images, asked for number {index}")


def _checked_field(rows: np.ndarray, key: str, name: str) -> np.ndarray:
    if of_kind(rows.dtype, np.integer):
        kind = np.int32
    elif of_kind(rows.dtype, np.floating):
        kind = np.float32
    else:
        raise UsageError(
            f"{name}: {key} must be integer or floating point, got {rows.dtype}"
        )
    if not rows.ndim or not rows.size:
        raise UsageError(f"{name}: {key} must be [n, ...], not empty, got {rows.shape}")
    with np.errstate(over="ignore"):
        held = np.ascontiguousarray(rows.astype(kind, copy=False)).view()
    if kind is np.int32 and not np.array_equal(held, rows):
        ends = f"{rows.min()} .. {rows.max()}"
        raise UsageError(f"{name}: {key} must be in [-2^31, 2^31), got {ends}")
    if not np.isfinite(held).all():
        raise UsageError(f"{name}: {key} must be finite in float32")
    held.flags.writeable = False
    return held

"""Whether a source is one: those that a user fills in by hand may not be."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_jax.data.arrays import checked_labels, of_kind
from rl_jax.data.source import Source
from rl_jax.errors import UsageError

RESERVED = {"index", "label", "image", "views"}
"""Names in a batch that are no field's, where there are images."""


def check_source(source: Source) -> None:
    """Refuses a source whose parts are not of the kinds and shapes it says.

    Nothing is loaded. `arrays`, `records` and `folder` make no other; one that was
    filled in by hand may be anything.

    Args:
      source: any; its held-out part is looked at, too.

    Raises:
      UsageError: naming the first part, what it is and what it should be.
    """
    name, size, shape = source.name, source.size, source.image_shape
    if not isinstance(name, str):
        raise UsageError(f"a source's name must be a text, got {_brief(name)}")
    if not _whole(size) or size < 1:
        raise UsageError(f"{name}: size must be an integer >= 1, got {_brief(size)}")
    if not isinstance(shape, tuple) or len(shape) not in (0, 3) or not all(
        _whole(side) and side >= 1 for side in shape
    ):  # fmt: skip
        raise UsageError(
            f"{name}: image_shape must be (H, W, C), or () where there are no images, "
            f"got {_brief(shape)}"
        )
    for part in ("load", "problems", "digest"):
        if not callable(getattr(source, part)):
            given = _brief(getattr(source, part))
            raise UsageError(f"{name}: {part} must be a function, got {given}")
    _check_images(source)
    _check_labels(source)
    _check_fields(source)
    if source.held_out is not None:
        _check_held_out(source)


def _check_images(source: Source) -> None:
    expected = (source.size, *source.image_shape)
    images = source.images
    if images is None:
        return
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise UsageError(
            f"{source.name}: images must be a NumPy array of uint8, or None, got "
            f"{_brief(images)}"
        )
    if images.shape != expected:
        raise UsageError(
            f"{source.name}: images must have the shape {expected}, as size and "
            f"image_shape say, got {images.shape}"
        )


def _check_labels(source: Source) -> None:
    labels, names = source.labels, source.class_names
    if not isinstance(names, tuple) or not all(isinstance(each, str) for each in names):
        raise UsageError(
            f"{source.name}: class_names must be a tuple of texts, got {_brief(names)}"
        )
    if labels is None:
        return
    if not isinstance(labels, np.ndarray):
        raise UsageError(
            f"{source.name}: labels must be a NumPy array of {source.size} integers, "
            f"or None, got {_brief(labels)}"
        )
    checked_labels(labels, source.size, source.name)
    if names and labels.max() >= len(names):
        raise UsageError(
            f"{source.name}: {len(names)} class names for labels up to {labels.max()}"
        )


def _check_fields(source: Source) -> None:
    name, fields = source.name, source.fields
    if not isinstance(fields, Mapping):
        raise UsageError(
            f"{name}: fields must be arrays by name, got {_brief(fields)}"
        )  # fmt: skip
    if not source.image_shape and not fields:
        raise UsageError(
            f"{name}: there are neither images nor fields; give image_shape and load, "
            "or fields"
        )
    taken = RESERVED if source.image_shape else RESERVED - {"image"}
    for key, rows in fields.items():
        if key in taken:
            raise UsageError(f"{name}: no field may be called {key}; call it otherwise")
        number = isinstance(rows, np.ndarray) and (
            of_kind(rows.dtype, np.integer) or of_kind(rows.dtype, np.floating)
        )
        if not number or not rows.ndim or len(rows) != source.size:
            raise UsageError(
                f"{name}: field {key} must be a NumPy array of numbers "
                f"[{source.size}, ...], got {_brief(rows)}"
            )


def _check_held_out(source: Source) -> None:
    held_out = source.held_out
    if not isinstance(held_out, Source):
        raise UsageError(
            f"{source.name}: held_out must be a data.Source or None, got "
            f"{_brief(held_out)}"
        )
    check_source(held_out)
    ours, theirs = (
        {key: rows.shape[1:] for key, rows in each.fields.items()}
        | {"image": each.image_shape}
        for each in (source, held_out)
    )
    if ours != theirs:
        raise UsageError(
            f"{source.name}: the examples of held_out must be {ours} like the others, "
            f"got {theirs}"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _brief(value: Any) -> str:
    """What was given, in a few words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, list | dict | set):
        return f"a {type(value).__name__} of {len(value)}"
    said = repr(value)
    return said if len(said) <= 40 else type(value).__name__

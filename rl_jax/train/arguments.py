"""Checks of what `fit` is given, before anything is compiled."""

from typing import Any

import numpy as np

from rl_jax import data
from rl_jax.errors import UsageError, check_integer
from rl_jax.types import Augment, Method


def check_seed(seed: int) -> None:
    """Refuses seeds that are not 32 bits.

    Raises:
      UsageError: `jax.random.key` takes more, and forgets all but the last 32.
    """
    check_integer("seed", seed)
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed must be in [0, 2^32), got {seed}")


def check_labels(method: Method, source: data.Source) -> None:
    """Refuses labels beyond the classes of the method, which would end as NaN.

    Raises:
      UsageError: naming the largest, and how many classes there are.
    """
    if method.classes is None or source.labels is None:
        return
    largest = int(np.max(source.labels, initial=-1))
    if largest >= method.classes:
        raise UsageError(
            f"labels of {source.name} go up to {largest}, but the method has "
            f"num_classes={method.classes}; give num_classes={largest + 1}, or number "
            "the classes from 0"
        )


def check_range(augment: Augment, source: data.Source) -> None:
    """Refuses images of floating point that an augmentation would cut off.

    Raises:
      UsageError: naming their range.
    """
    image = source.fields.get("image")
    if not augment.unit_range or image is None or image.dtype.kind != "f":
        return
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        raise UsageError(
            f"{source.name}: images are in [{low:.9g}, {high:.9g}], of which this "
            "augmentation keeps [0, 1]; scale them to that, or give one of your own: "
            "augment.views(...)"
        )


def check_kinds(method: Any, source: Any, augment: Any, optimizer: Any) -> None:
    """Refuses pieces that are not what the library's factories make.

    Raises:
      UsageError: naming the first, and a factory of what is expected; for a source
        also what `data.check_source` says.
    """
    is_optimizer = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    for name, piece, fits, expected in (
        ("method", method, isinstance(method, Method), "methods.simclr(...)"),
        ("source", source, isinstance(source, data.Source), "data.arrays(images)"),
        ("augment", augment, isinstance(augment, Augment), "augment.digits()"),
        ("optimizer", optimizer, is_optimizer, "train.adamw(...)"),
    ):
        if not fits:
            got = getattr(piece, "__name__", type(piece).__name__)
            raise UsageError(f"{name}: expected what {expected} makes, got {got}")
    data.check_source(source)


def check_counts(least: int, **counts: Any) -> None:
    """Refuses counts that are no integers or below `least`.

    Raises:
      UsageError: for the first of them.
    """
    for name, count in counts.items():
        check_integer(name, count)
        if count < least:
            raise UsageError(f"{name} must be at least {least}, got {count}")

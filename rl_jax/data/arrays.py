"""Sources from NumPy arrays in memory."""

import functools
import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from rl_jax.data.source import Source
from rl_jax.errors import UsageError

_log = logging.getLogger("rl_jax.data")
_MAX_LABEL = 2**20


def arrays(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    held_out: Source | None = None,
) -> Source:
    """A source from images in memory.

    Args:
      images: [n, H, W, C] or [n, H, W] (then C = 1), n >= 1. uint8 in 0..255, or
        floating point in [0, 1], which becomes round(255 · v) (half to even): images
        are held in 8 bits, and a warning tells where that loses some. Vectors and
        other numbers are kept whole by `records`. uint8 is not copied: leave it as it
        is afterwards. A warning tells of uint8 that is only 0 and 1, almost black.
      labels: [n] integers in [-1, 2^20), -1 where unknown; or None.
      name: what logs and run records call it.
      class_names: the name of each label; None: the label's digits.
      held_out: the part kept for testing, of the same image shape.

    Returns:
      A source held in memory.

    Raises:
      UsageError: wrong type, shape or range.
    """
    images = _checked_images(as_array(images, "images", name), name)
    size, shape = len(images), images.shape[1:]
    if labels is not None:
        labels = checked_labels(as_array(labels, "labels", name), size, name)
    if held_out is not None and held_out.image_shape != shape:
        raise UsageError(
            f"{name}: held-out images must have the shape {shape}, "
            f"got {held_out.image_shape}"
        )
    return Source(
        name=name,
        size=size,
        image_shape=shape,
        load=images.__getitem__,
        labels=labels,
        class_names=named_classes(labels, class_names, held_out, name),
        images=images,
        held_out=held_out,
        digest=functools.partial(digest, images, labels),
    )


def named_classes(
    labels: np.ndarray | None,
    class_names: Sequence[str] | None,
    held_out: Source | None,
    name: str,
) -> tuple[str, ...]:
    """A name for each label there may be: those given, or the labels' digits."""
    if labels is None:
        return tuple(class_names or ())
    classes = int(labels.max()) + 1
    if held_out is not None:
        classes = max(classes, len(held_out.class_names))
    if class_names is None:
        return tuple(str(label) for label in range(classes))
    if len(class_names) < classes:
        raise UsageError(
            f"{name}: {len(class_names)} class names for labels up to {classes - 1}"
        )
    return tuple(class_names)


def digest(*arrays: np.ndarray | None) -> str:
    """A digest of the bytes of arrays, those that are None left out."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(b"" if array is None else array.data)
    return found.hexdigest()


def as_array(given: Any, what: str, name: str) -> np.ndarray:
    """What was given as one array.

    Raises:
      UsageError: for lists of unequal lengths, which are none.
    """
    try:
        return np.asarray(given)
    except ValueError as error:
        raise UsageError(f"{name}: {what} are no array: {error}") from None


def _checked_images(images: np.ndarray, name: str) -> np.ndarray:
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise UsageError(
            f"{name}: images must be [n, H, W] or [n, H, W, C] and not empty, "
            f"got shape {images.shape}"
        )
    if images.ndim == 4 and images.shape[3] > 4 >= images.shape[1]:
        raise UsageError(
            f"{name}: images must have the channels last, got shape {images.shape}; "
            "use images.transpose(0, 2, 3, 1)"
        )
    if of_kind(images.dtype, np.floating):
        dtype, low, high = images.dtype, float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):
            raise UsageError(
                f"{name}: floating-point images must be in [0, 1], "
                f"got [{low:.9g}, {high:.9g}]; divide by 255 or pass uint8"
            )
        exact = np.multiply(images, 255, dtype=np.float32)
        images = np.rint(exact)
        lost = np.subtract(exact, images, out=exact)
        # 16 bits of floating point hold no more, and rarely just these levels.
        if max(lost.max(), -lost.min()) > 0.02 and dtype.itemsize > 2:
            _log.warning(
                "%s: the %s images have more than 8 bits, of which 8 are kept; scale "
                "what matters to [0, 1], or use data.records for numbers as they are",
                name,
                dtype,
            )
        images = images.astype(np.uint8)
    elif images.dtype != np.uint8:
        advice = ""
        if images.dtype == np.bool_:
            advice = "; use images.astype(np.float32)"
        elif of_kind(images.dtype, np.integer):
            advice = "; use images.astype(np.uint8) if they are in 0..255"
        elif images.dtype.kind == "V":
            advice = "; a file keeps no bfloat16: save float32"
        raise UsageError(
            f"{name}: images must be uint8 or floating point in [0, 1], "
            f"got {images.dtype}{advice}"
        )
    elif images.max() == 1:
        _log.warning(
            "%s: the images look binary: uint8 of 0 and 1 is almost black; multiply "
            "them by 255 or pass floats",
            name,
        )
    images = np.ascontiguousarray(images if images.ndim == 4 else images[..., None])
    images = images.view()
    images.flags.writeable = False
    return images


def of_kind(dtype: np.dtype, kind: type) -> bool:
    """`np.issubdtype` that knows bfloat16 and the other dtypes of jax, too."""
    if dtype.kind != "V":
        return np.issubdtype(dtype, kind)
    import jax.numpy as jnp  # whoever has such an array has imported it already

    return bool(jnp.issubdtype(dtype, kind))


def checked_labels(labels: np.ndarray, size: int, name: str) -> np.ndarray:
    """Labels as int32 that cannot be written to; refuses what is out of range."""
    if not of_kind(labels.dtype, np.integer) or labels.dtype.kind == "m":
        raise UsageError(f"{name}: labels must be integers, got {labels.dtype}")
    if labels.shape != (size,):
        raise UsageError(
            f"{name}: labels must have the shape ({size},), one for each image, "
            f"got {labels.shape}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < -1 or high >= _MAX_LABEL:
        raise UsageError(
            f"{name}: labels must be in [-1, {_MAX_LABEL}), got [{low}, {high}]"
        )
    return labels.astype(np.int32)

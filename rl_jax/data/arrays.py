"""Sources from NumPy arrays in memory or in .npz and .npy files."""

import functools
import hashlib
import logging
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from rl_jax.data.problems import printable
from rl_jax.data.source import Source
from rl_jax.errors import UsageError

_log = logging.getLogger("rl_jax.data")
_IMAGES = ("images", "image", "x", "x_train")
_LABELS = ("labels", "label", "y", "y_train")
_TEST_IMAGES = ("test_images", "x_test")
_TEST_LABELS = ("test_labels", "y_test")
_MAX_LABEL = 2**20
# Real images compress less than this even when binary and sparse (dSprites: 110);
# zeros, of which bombs are made, reach 1,030.
_MAX_RATIO = 500


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


def npz(path: str | os.PathLike, *, limit_bytes: int = 4 << 30) -> Source:
    """A source from an .npz or .npy file; nothing in it is ever unpickled.

    Args:
      path: an .npy file of images, or an .npz file with images under `images`,
        `image`, `x` or `x_train`; labels, if any, under `labels`, `label`, `y` or
        `y_train`; and optionally a held-out part under `test_images` or `x_test`
        and `test_labels` or `y_test`. Types and shapes as in `arrays`. A warning
        names other arrays, which are not used.
      limit_bytes: the most that the file may hold uncompressed, in bytes; checked
        before anything is read.

    Returns:
      A source held in memory.

    Raises:
      UsageError: the file is missing, damaged, too large or has other contents.
    """
    path = os.fspath(path)
    shown = f"npz: {path!r}"
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic == b"\x93NUMPY":
                size = os.path.getsize(path)
                image = _read(file, size, limit_bytes, shown)
                return arrays(image, name=os.path.basename(path))
            if magic[:4] == b"PK\x03\x04":
                return _read_npz(file, path, limit_bytes, shown)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror or error}") from None
    raise UsageError(f"{shown} is neither an .npz nor an .npy file")


def _read_npz(file: IO[bytes], path: str, limit_bytes: int, shown: str) -> Source:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
            total = sum(i.file_size for i in archive.infolist())
            packed = sum(i.compress_size for i in archive.infolist())
            if total > min(limit_bytes, max(2**26, _MAX_RATIO * packed)):
                raise UsageError(
                    f"{shown} unpacks to {total:,} bytes from {packed:,}, "
                    f"limit_bytes is {limit_bytes:,} and the ratio at most {_MAX_RATIO}"
                )

            used = set()

            def read(keys):
                key = next((key for key in keys if key in members), None)
                if key is None:
                    return None
                used.add(key)
                with archive.open(members[key]) as entry:
                    where = f"{shown}[{key!r}]"
                    return _read(entry, members[key].file_size, limit_bytes, where)

            images, labels = read(_IMAGES), read(_LABELS)
            test_images = read(_TEST_IMAGES)
            test_labels = None if test_images is None else read(_TEST_LABELS)
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError),
    ) as error:
        raise UsageError(f"{shown} is a damaged .npz file: {error}") from None
    if images is None:
        found = printable(", ".join(sorted(members)[:20])) or "no arrays"
        raise UsageError(
            f"{shown} has no images: expected one of {', '.join(_IMAGES)}, "
            f"found {found}"
        )
    if unused := sorted(members.keys() - used):
        known = (_IMAGES, _LABELS, _TEST_IMAGES, _TEST_LABELS)
        _log.warning(
            "%s: not used: %s; images are read from %s, labels from %s, a held-out "
            "part from %s with %s",
            shown,
            printable(", ".join(unused[:20])),
            *map(_either, known),
        )
    name = os.path.basename(path)
    held_out = None
    if test_images is not None:
        held_out = arrays(test_images, test_labels, name=f"{name} held out")
    return arrays(images, labels, name=name, held_out=held_out)


def _either(keys: Sequence[str]) -> str:
    return f"{', '.join(keys[:-1])} or {keys[-1]}"


def _read(file: IO[bytes], size: int, limit_bytes: int, shown: str) -> np.ndarray:
    # The header is checked by hand before NumPy reads it again: a false shape in it
    # would make NumPy allocate that much, and NumPy unpickles object arrays on demand.
    header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in header:
            raise UsageError(f"{shown} has the unknown .npy version {version}")
        shape, _, dtype = header[version](file)
        if dtype.hasobject:
            raise UsageError(f"{shown} holds pickled objects, which are never read")
        needed = math.prod(shape) * dtype.itemsize
        if needed > limit_bytes:
            raise UsageError(
                f"{shown} holds {needed:,} bytes, limit_bytes is {limit_bytes:,}"
            )
        if needed != size - file.tell():
            raise UsageError(
                f"{shown} is damaged: its header promises {needed:,} bytes of data, "
                f"it holds {size - file.tell():,}"
            )
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    except UsageError:
        raise
    except (ValueError, SyntaxError, TypeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{shown} is damaged: {reason}") from None

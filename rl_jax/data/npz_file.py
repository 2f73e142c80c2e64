"""Sources from .npz and .npy files: images, vectors, sequences, pairs."""

import logging
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO

import numpy as np

from rl_jax.data.arrays import arrays, of_kind
from rl_jax.data.records import records
from rl_jax.data.source import Source
from rl_jax.errors import UsageError
from rl_jax.files import printable

_log = logging.getLogger("rl_jax.data")
_IMAGES = ("images", "image", "x", "x_train")
_LABELS = ("labels", "label", "y", "y_train")
_TEST_IMAGES = ("test_images", "test_image", "x_test")
_TEST_LABELS = ("test_labels", "test_label", "y_test")
_BESIDE = ("sequence", "pair", "u", "factors")
"""Fields of records, of the same names in a batch; held out as `test_NAME`."""
# Real images compress less than this even when binary and sparse (dSprites: 110);
# zeros, of which bombs are made, reach 1,030.
_MAX_RATIO = 500


def npz(path: str | os.PathLike, *, limit_bytes: int = 4 << 30) -> Source:
    """A source from an .npz or .npy file; nothing in it is ever unpickled.

    Images are `arrays`. Of other shapes are `records`, whose numbers are held whole, in
    float32: vectors [n, D] in the place of images, for `autoencoder`, `vae`, `ivae`;
    sequences [n, T, F], or [n, T] of one number, under `sequence`, for `cpc` and
    `info_nce --positives temporal`; with `pair`, of the shape of `image`, two arrays
    that belong together, for `info_nce --positives paired`. Pictures of uint8 are then
    in 255ths; all else, vectors of uint8 too, is as it is. Beside vectors, `u` int [n]
    are segments, `factors` [n, F] the true ones.

    Args:
      path: an .npy file of images or vectors, or an .npz file with these under
        `images`, `image`, `x` or `x_train`, or with `sequence`; labels, if any, under
        `labels`, `label`, `y` or `y_train`; and optionally a held-out part under
        `test_images` or `x_test`, `test_sequence`, `test_pair`, `test_u`,
        `test_factors`, and `test_labels` or `y_test`. Types and shapes as in `arrays`
        and `records`. A warning names other arrays, which are not used.
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
                return _source({"image": image}, None, os.path.basename(path))
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

            def read(keys: Sequence[str]) -> np.ndarray | None:
                key = next((key for key in keys if key in members), None)
                if key is None:
                    return None
                used.add(key)
                with archive.open(members[key]) as entry:
                    where = f"{shown}[{key!r}]"
                    return _read(entry, members[key].file_size, limit_bytes, where)

            fields = _fields(read, _IMAGES, "{}")
            labels = read(_LABELS)
            test_fields = _fields(read, _TEST_IMAGES, "test_{}", like=fields)
            test_labels = read(_TEST_LABELS) if test_fields else None
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError),
    ) as error:
        raise UsageError(f"{shown} is a damaged .npz file: {error}") from None
    if not fields:
        found = printable(", ".join(sorted(members)[:20])) or "no arrays"
        raise UsageError(
            f"{shown} has no images: expected one of {', '.join(_IMAGES)} (vectors, "
            f"too), or sequence, found {found}"
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
    if test_fields:
        missing = ", ".join(f"test_{key}" for key in fields.keys() - test_fields.keys())
        if missing:
            raise UsageError(f"{shown} has a held-out part without {missing}")
        held_out = _source(test_fields, test_labels, f"{name} held out")
    return _source(fields, labels, name, held_out=held_out)


def _fields(
    read: Callable[[Sequence[str]], np.ndarray | None],
    images: Sequence[str],
    form: str,
    *,
    like: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """What makes an example, by its name in a batch; only those of `like`, if given."""
    image = read(images) if like is None or "image" in like else None
    found = {} if image is None else {"image": image}
    if like is not None:
        beside = [key for key in _BESIDE if key in like]
    elif image is None:
        beside = ["sequence"]
    else:
        # Beside images that are stored as such there is only what belongs to them.
        beside = ["pair"] if image.ndim > 2 else ["pair", "u", "factors"]
    more = {key: read([form.format(key)]) for key in beside}
    return found | {key: rows for key, rows in more.items() if rows is not None}


def _source(
    fields: dict[str, np.ndarray],
    labels: np.ndarray | None,
    name: str,
    *,
    held_out: Source | None = None,
) -> Source:
    """Images, or records where there is anything else."""
    image = fields.get("image")
    if fields.keys() == {"image"} and image is not None and image.ndim != 2:
        return arrays(image, labels, name=name, held_out=held_out)
    held = {key: _numbers(rows, key, name) for key, rows in fields.items()}
    pair = held.get("pair")
    if pair is not None and pair.shape != held["image"].shape:
        raise UsageError(
            f"{name}: pair must have the shape of the images, {held['image'].shape}, "
            f"got {pair.shape}"
        )
    return records(held, labels, name=name, held_out=held_out)


def _numbers(rows: np.ndarray, key: str, name: str) -> np.ndarray:
    """Float32 but for segments; sequences of one number get an axis for it."""
    if key == "u":
        return rows
    if not (of_kind(rows.dtype, np.integer) or of_kind(rows.dtype, np.floating)):
        raise UsageError(f"{name}: {key} must be numbers, got {rows.dtype}")
    if key == "sequence" and rows.ndim == 2:
        rows = rows[..., None]
    wanted = {"sequence": (3,), "factors": (2,)}.get(key, (2, 3, 4))
    if rows.ndim not in wanted:
        form = {"sequence": "[n, T, F]", "factors": "[n, F]"}.get(key, "[n, ...]")
        raise UsageError(f"{name}: {key} must be {form}, got shape {rows.shape}")
    scale = np.float32(255 if key in ("image", "pair") and rows.ndim > 2 else 1)
    if rows.dtype != np.uint8:
        scale = np.float32(1)
    if key in ("image", "pair") and rows.ndim == 3:
        rows = rows[..., None]
    with np.errstate(over="ignore"):  # `records` says it
        return rows.astype(np.float32) / scale


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

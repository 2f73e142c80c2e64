"""What was found in shards, kept in the user's cache folder."""

import contextlib
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from rl_jax import files
from rl_jax.data.packed import Packed

FORMAT = 1
WORTH_KEEPING = 3.0
"""Seconds that a search must take for what it found to be kept."""

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
Found = tuple[np.ndarray, Packed, int, str]


def find(
    shards: Sequence[str], sizes: np.ndarray, modified: np.ndarray, row: np.dtype
) -> Found | None:
    """What `keep` kept of shards of these paths, sizes and times; None if nothing.

    Args:
      shards: absolute paths.
      sizes, modified: of each, in bytes and nanoseconds.
      row: the dtype of the rows.
    """
    with (
        contextlib.suppress(*_UNREADABLE, RuntimeError),
        open(_file(shards), "rb") as file,
        np.load(file) as kept,
    ):
        told = json.loads(bytes(kept["told"]))
        if told["stamp"] != _stamp(shards, sizes, modified):
            return None
        rows, names = kept["rows"], Packed(kept["names"], kept["ends"])
        if rows.dtype == row and len(rows) == len(names):
            return rows, names, int(told["without"]), str(told["first"])
    return None


def keep(
    shards: Sequence[str],
    sizes: np.ndarray,
    modified: np.ndarray,
    found: Found,
    *,
    seconds: float,
) -> None:
    """Keeps what was found where finding it again would take long.

    What was kept of the same shards before is replaced. A folder that cannot be
    written is no error.

    Args:
      shards: absolute paths.
      sizes, modified: of each, in bytes and nanoseconds.
      found: rows, names, the number of samples without an image and one of them.
      seconds: that it took.
    """
    if seconds < WORTH_KEEPING:
        return
    rows, names, without, first = found
    stamp = _stamp(shards, sizes, modified)
    told = json.dumps({"stamp": stamp, "without": without, "first": first}).encode()
    with contextlib.suppress(OSError, RuntimeError):  # no home, no rights, no space
        path = _file(shards)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as file:
            np.savez(
                file,
                rows=rows,
                names=names.data,
                ends=names.ends,
                told=np.frombuffer(told, np.uint8),
            )


def _stamp(shards: Sequence[str], sizes: np.ndarray, modified: np.ndarray) -> str:
    digest = _digest(shards)
    digest.update(sizes.tobytes() + modified.tobytes() + b"%d" % FORMAT)
    return digest.hexdigest()


def _file(shards: Sequence[str]) -> pathlib.Path:
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "rl_jax" / "shards" / f"{_digest(shards).hexdigest()}.npz"


def _digest(shards: Sequence[str]):
    digest = hashlib.blake2b(digest_size=16)
    for shard in shards:
        digest.update(os.fsencode(shard) + b"\0")
    return digest

"""Where each sample of a set of shards lies: a row of a few numbers, and its name."""

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from rl_jax.data.packed import Packed, Taken, joined, packed
from rl_jax.data.webdataset import cache, tar
from rl_jax.errors import UsageError
from rl_jax.files import printable

# Of several images of a sample the first, as open_clip has it.
IMAGES = (b"jpg", b"png", b"jpeg", b"webp")
TEXTS = (b"txt", b"json")
ROW = np.dtype(
    [
        ("shard", np.uint32),
        ("offset", np.int64),
        ("size", np.uint32),
        ("label", np.int32),
        ("text_offset", np.int64),
        ("text_size", np.uint32),
        ("text_is_json", np.bool_),
    ]
)
"""A sample: the places of its image and text, in bytes from the start of its shard.

An image at -1 is a link or a sparse file there; a label of -1 or a text of 0 bytes is
none.
"""
_THREADS = 16
_EVERY = 15.0  # seconds between lines of progress
_MAX_LABEL = 2**20
_LARGEST = 2**32 - 1
_log = logging.getLogger("rl_jax.data")


class Index(NamedTuple):
    """The samples with an image of a set of shards, shard after shard.

    Attributes:
      shards: the path of each.
      sizes, modified: int64, of each in bytes, and when in nanoseconds.
      rows: [n] of `ROW`.
      names: of each image in its shard.
      without: how many samples have no image.
      first: one of those.
    """

    shards: tuple[str, ...]
    sizes: np.ndarray
    modified: np.ndarray
    rows: np.ndarray
    names: Sequence[str]
    without: int
    first: str

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """Bytes of a shard."""
        where = self.shards[shard], int(self.sizes[shard]), int(self.modified[shard])
        return tar.read(*where, int(offset), int(size))

    def take(self, rows: np.ndarray) -> "Index":
        """The index of some samples, int [k]."""
        return self._replace(rows=self.rows[rows], names=Taken(self.names, rows))


def index_of(shards: Sequence[str], factory: str) -> Index:
    """Finds the samples in tars: their headers are read, and their labels.

    What took long is kept in the user's cache folder, and used as long as no shard has
    another size or time. Beside the data it would be a file that nobody asked for, and
    often cannot be written.

    Args:
      shards: absolute paths.
      factory: whose name errors bear.

    Raises:
      UsageError: a shard cannot be read, is no sound tar, or holds what is no sample;
        or there are no images.
    """
    try:
        found = [os.stat(shard) for shard in shards]
        sizes = np.array([status.st_size for status in found], np.int64)
        modified = np.array([status.st_mtime_ns for status in found], np.int64)
        index = cache.find(shards, sizes, modified, ROW)
        if index is None:
            started = time.monotonic()
            index = _all_scanned(shards, factory)
            took = time.monotonic() - started
            cache.keep(shards, sizes, modified, index, seconds=took)
    except OSError as error:
        where = printable(str(error.filename))
        reason = error.strerror
        raise UsageError(f"{factory}: cannot read {where!r}: {reason}") from None
    except tar.TarError as error:
        raise UsageError(f"{factory}: {error}") from None
    if not len(index[0]):
        raise UsageError(_no_images(shards, factory, index[3]))
    return Index(tuple(shards), sizes, modified, *index)


def _no_images(shards: Sequence[str], factory: str, first: str) -> str:
    where = repr(shards[0])
    where += f" and {len(shards) - 1} more tars" if len(shards) > 1 else ""
    also = f"; found {first!r}" if first else ""
    return (
        f"{factory}: no images in {where}: expected files NAME.jpg, .png, .jpeg or "
        f".webp, whose name ends at its first point{also}"
    )


def _all_scanned(
    shards: Sequence[str], factory: str
) -> tuple[np.ndarray, Packed, int, str]:
    rows, names, without, first = [np.zeros(0, ROW)], [], 0, ""
    images, said = 0, time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for number, found in enumerate(pool.map(_scanned, shards)):
                found[0]["shard"] = number
                rows.append(found[0])
                names.append(found[1])
                without, first = without + found[2], first or found[3]
                images += len(found[0])
                if time.monotonic() - said > _EVERY:
                    said = time.monotonic()
                    _log.warning(
                        "%s: looked into %s of %s tars, %s images so far",
                        *(factory, f"{number + 1:,}", f"{len(shards):,}"),
                        f"{images:,}",
                    )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return np.concatenate(rows), joined(names), without, first


class _Sample:
    """What was found of one: its files by their suffix."""

    __slots__ = ("image", "label", "name", "rank", "text")

    def __init__(self):
        self.image: tuple[int, int] | None = None
        self.name, self.rank = b"", len(IMAGES)
        self.label: int | None = None
        self.text: tuple[int, int, bool] | None = None


def _scanned(shard: str) -> tuple[np.ndarray, Packed, int, str]:
    """Rows, the names of their images, and of the samples without one."""
    descriptor = os.open(shard, os.O_RDONLY | os.O_CLOEXEC)
    try:
        headers = tar.Headers(descriptor, os.fstat(descriptor).st_size)
        # By name, not by neighbourhood: `tar` packs a folder as its disk lists it.
        samples: dict[bytes, _Sample] = {}
        seen: set[bytes] = set()
        other = b""
        for member in headers:
            name = member.name.removeprefix(b"./")
            stem, suffix = divided(name)
            if not stem or suffix not in _KNOWN:
                other = other or name
                continue
            place = stem + b"." + suffix
            if place in seen:
                raise tar.TarError(f"holds {_shown(place)} twice")
            seen.add(place)
            sample = samples.setdefault(stem, _Sample())
            _add(sample, suffix, name, member, headers)
    except tar.TarError as error:
        raise tar.TarError(f"{shard!r} {error}") from None
    except OSError as error:
        error.filename = error.filename or shard
        raise
    finally:
        os.close(descriptor)
    found = [sample for sample in samples.values() if sample.image is not None]
    lacking = [stem for stem, sample in samples.items() if sample.image is None]
    first = lacking[0] if lacking else other
    rows = np.array(
        [
            (0, *each.image, -1 if each.label is None else each.label)
            + (each.text or (0, 0, False))
            for each in found
            if each.image is not None
        ],
        ROW,
    )
    return (
        rows,
        packed(each.name for each in found),
        len(lacking),
        f"{os.path.basename(shard)}/{_shown(first)}" if first else "",
    )


_KNOWN = {*IMAGES, *TEXTS, b"cls"}


def divided(name: bytes) -> tuple[bytes, bytes]:
    """A sample's name, up to the first point of the file's, and the suffix below it."""
    folder, slash, file = name.rpartition(b"/")
    stem, _, suffix = file.partition(b".")
    return (folder + slash + stem if stem else b""), suffix.lower()


def _add(sample: _Sample, suffix: bytes, name: bytes, member, headers) -> None:
    if suffix in IMAGES:
        rank = IMAGES.index(suffix)
        if rank < sample.rank:
            offset = member.offset if member.plain else -1
            sample.image = offset, min(member.size, _LARGEST)
            sample.name, sample.rank = name, rank
        return
    if not member.plain:
        raise tar.TarError(
            f"has {_shown(name)} as a link or a sparse file, and is read as it is: "
            "pack it with tar --dereference --hard-dereference"
        )
    if suffix == b"cls":
        content = headers.content(member.offset, min(member.size, 64))
        sample.label = _label(content, name)
    elif suffix == b"txt" or sample.text is None:
        size = min(member.size, _LARGEST)
        sample.text = member.offset, size, suffix == b"json"


def _label(content: bytes, name: bytes) -> int:
    try:
        label = int(content.decode("ascii"))
    except ValueError:
        raise tar.TarError(
            f"has {content[:20].decode(errors='replace')!r} in {_shown(name)}, "
            "expected the number of a class"
        ) from None
    if not -1 <= label < _MAX_LABEL:
        raise tar.TarError(
            f"has the class {label} in {_shown(name)}, expected one in "
            f"[-1, {_MAX_LABEL})"
        )
    return label


def _shown(name: bytes) -> str:
    return printable(os.fsdecode(name))

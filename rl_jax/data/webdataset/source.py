"""A source from tar files of images, as WebDataset and open_clip lay them out."""

import functools
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rl_jax.data.arrays import named_classes
from rl_jax.data.decode import MAX_BYTES, DecodeError, decode
from rl_jax.data.folder import check_decoding
from rl_jax.data.problems import Problems
from rl_jax.data.source import Source
from rl_jax.data.stand_ins import loader
from rl_jax.data.webdataset import tar
from rl_jax.data.webdataset.files import shard_parts
from rl_jax.data.webdataset.index import IMAGES, Index, divided, index_of
from rl_jax.errors import UsageError
from rl_jax.files import printable

CLASS_NAMES = "classnames.txt"
_log = logging.getLogger("rl_jax.data")


def shards(
    path: str | os.PathLike, *, size: int = 224, max_bad: float = 0.01
) -> Source:
    """A source from tar files that hold images, as WebDataset lays them out.

    The files of a tar whose names are the same up to the first point are a sample:
    `a/7.jpg` (or .png, .jpeg, .webp; the first of these that there is, as open_clip has
    it) is its image, `a/7.cls` the number of its class, if known. Samples come in the
    order of the tars' sorted paths and of their files there; those without an image
    are left out, and a warning counts them. A file `classnames.txt` in the directory
    names the classes, a line each.

    Where the paths of some tars below the directory say `train` and of others `val`,
    `validation` or `test`, as a directory or a word of the name, those of `train` are
    the source and those of `val` (else `test`) its `held_out`.

    All headers of the tars are read first. What took more than a few seconds is kept
    in ~/.cache/rl_jax (or below XDG_CACHE_HOME) for the next time. Images are then read
    by their place, in the order of the steps, and need not lie in the tars shuffled.

    Images are decoded, and undecodable ones replaced, as `folder` does it.

    Args:
      path: a directory with .tar files at any depth, a .tar file, or a pattern of some:
        `train-{00000..00099}.tar`, `{a,b}.tar`. They must not be compressed.
      size: side of the images in pixels, >= 1.
      max_bad: the largest share of undecodable images, as in `folder`.

    Returns:
      A source that decodes from disk. Loading raises UsageError when more than
      `max_bad` of the images read cannot be decoded, or a tar has changed.

    Raises:
      UsageError: no tars or no images; a tar that is compressed, damaged or cut short,
        or has a file twice or a class that is no number; or bad arguments.
    """
    check_decoding(size, max_bad, "shards")
    found = opened(path, "shards")
    source = None
    for index in reversed(found.parts):
        source = images_of(found, index, size, max_bad)._replace(held_out=source)
    assert source is not None
    return source


class Shards(NamedTuple):
    """Some tars whose headers have been read.

    Attributes:
      root: the folder of all.
      parts: of the training part, and of the held-out one if there is one.
      labelled: whether any sample has a class.
      class_names: of all classes.
      spoken: the same where they are words, else ().
    """

    root: str
    parts: list[Index]
    labelled: bool
    class_names: tuple[str, ...]
    spoken: tuple[str, ...]


def opened(path: str | os.PathLike, factory: str) -> Shards:
    """Reads the headers of the tars that a path means; tells what they lack."""
    root, names = shard_parts(path, factory)
    parts = [
        index_of([os.path.join(root, name) for name in part], factory) for part in names
    ]
    labels = np.concatenate([part.rows["label"] for part in parts])
    if without := sum(part.without for part in parts):
        first = next(part.first for part in parts if part.without)
        _log.warning(
            "%s: left out %s samples without an image, as %s", factory, without, first
        )
    labelled, unknown = bool((labels >= 0).any()), int((labels < 0).sum())
    if labelled and unknown:
        _log.warning(
            "%s: %s of the %s images have no .cls, or -1 there: their labels are "
            "unknown",
            *(factory, f"{unknown:,}", f"{len(labels):,}"),
        )
    if not labelled:
        return Shards(root, parts, False, (), ())
    spoken = _class_names(root, factory)
    where = f"{factory}: {os.path.join(root, CLASS_NAMES)!r}"
    names = named_classes(labels, spoken or None, None, where)
    return Shards(root, parts, True, names, spoken)


def _class_names(root: str, factory: str) -> tuple[str, ...]:
    path = os.path.join(root, CLASS_NAMES)
    if not os.path.isfile(path):
        return ()
    try:
        with open(path, "rb") as file:
            lines = file.read(MAX_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", error)
        raise UsageError(f"{factory}: {path!r} cannot be read: {reason}") from None
    return tuple(printable(line.strip()) for line in lines if line.strip())


def images_of(found: Shards, index: Index, size: int, max_bad: float) -> Source:
    """A source of samples of some tars, without a held-out part."""
    names = Names(found.root, index)
    problems = Problems(f"shards {found.root!r}", names, max_bad)
    read = functools.partial(_decoded, index, size)
    labels = index.rows["label"].copy() if found.labelled else None
    return Source(
        name=os.path.basename(found.root),
        size=len(index.rows),
        image_shape=(size, size, 3),
        load=loader(read, names, problems, f"shards {found.root!r}"),
        labels=labels,
        class_names=found.class_names,
        problems=problems,
        digest=functools.partial(_digest, found.root, index),
        files=names,
    )


class Names(Sequence[str]):
    """The path of each image: that of its tar below the root, and in it."""

    def __init__(self, root: str, index: Index):
        self._shards = [os.path.relpath(shard, root) for shard in index.shards]
        self._index = index

    def __len__(self) -> int:
        return len(self._index.rows)

    def __getitem__(self, at) -> str:
        shard = self._shards[self._index.rows["shard"][at]]
        return printable(f"{shard}/{self._index.names[at]}")


def _digest(root: str, index: Index) -> str:
    # Places in the tars stand for the names: a sample has the files of its own name.
    digest = hashlib.blake2b(digest_size=16)
    for shard, size in zip(index.shards, index.sizes, strict=True):
        name = os.fsencode(os.path.relpath(shard, root))
        digest.update(name + b"\0%d\0" % size)
    digest.update(index.rows.tobytes())
    return digest.hexdigest()


def _decoded(index: Index, size: int, at: int) -> np.ndarray:
    row = index.rows[at]
    if row["offset"] < 0:
        raise DecodeError("a link or a sparse file of its tar")
    if row["size"] > MAX_BYTES:
        raise DecodeError(f"larger than {MAX_BYTES} bytes")
    return decode(index.read(row["shard"], row["offset"], row["size"]), size=size)


def first_images(path: str | os.PathLike) -> Iterator[bytes]:
    """The bytes of the first images in the tars of a path, read as asked for."""
    for _, content in first_files(path, IMAGES):
        yield content


def first_files(
    path: str | os.PathLike, suffixes: tuple[bytes, ...]
) -> Iterator[tuple[bytes, bytes]]:
    """Suffix and content of files in tars; what is no sound tar ends it."""
    root, parts = shard_parts(path, "shards")
    for name in parts[0]:
        try:
            descriptor = os.open(os.path.join(root, name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            headers = tar.Headers(descriptor, os.fstat(descriptor).st_size)
            for member in headers:
                stem, suffix = divided(member.name)
                if stem and suffix in suffixes and member.plain:
                    size = min(member.size, MAX_BYTES)
                    yield suffix, os.pread(descriptor, size, member.offset)
        except (OSError, tar.TarError):
            return
        finally:
            os.close(descriptor)

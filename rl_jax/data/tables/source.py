"""A source from a dataset of Hugging Face on this disk: Arrow or Parquet."""

import functools
import hashlib
import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_jax.data.arrays import checked_labels, named_classes
from rl_jax.data.decode import MAX_BYTES, DecodeError, decode, read_image
from rl_jax.data.folder import check_decoding
from rl_jax.data.problems import Problems
from rl_jax.data.source import Source
from rl_jax.data.stand_ins import loader
from rl_jax.data.tables import columns
from rl_jax.data.tables.opened import Table, tables
from rl_jax.files import printable


def hugging_face(
    path: str | os.PathLike,
    *,
    size: int = 224,
    max_bad: float = 0.01,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """A source from a dataset of Hugging Face that lies on this disk.

    Read by the package `datasets`, without network: what `save_to_disk` wrote, or
    Parquet as it is downloaded, `data/train-00000-of-00005.parquet`. Parquet has no
    place for each row and is first copied, by `datasets` and once, to its own cache as
    Arrow; `HF_HOME` says where.

    The part `train` is the source and `validation` (`val`, `valid`, `dev`; else `test`)
    its `held_out`; parts of Parquet are told by the names of files, as in `shards`.
    Classes are a column of ClassLabel, whose names they have, or of integers called
    `label`; of several of ClassLabel none called so, none is taken, and a warning says
    so.

    Images are decoded, and undecodable ones replaced, as `folder` does it.

    Args:
      path: the directory, or a file of Parquet.
      size: side of the images in pixels, >= 1.
      max_bad: the largest share of undecodable images, as in `folder`.
      image_column: of the images; None: the one whose type is Image, of several or
        where there is only bytes the one called `image`, `img`, `jpg` or `png`.
      label_column: of the classes; None: as said above.

    Returns:
      A source that decodes from disk. Loading raises UsageError when more than
      `max_bad` of the images read cannot be decoded.

    Raises:
      UsageError: there is none, it cannot be read, has no images or no such column;
        `datasets` is not installed; or bad arguments.
    """
    check_decoding(size, max_bad, "hugging_face")
    found = opened(path, image_column, label_column, "hugging_face")
    source = None
    for part in reversed(found.parts):
        source = images_of(found, part, None, size, max_bad)._replace(held_out=source)
    assert source is not None
    return source


class Part(NamedTuple):
    """A part of a dataset: its table, the column of its images and its labels."""

    table: Table
    column: str
    labels: np.ndarray | None


class Opened(NamedTuple):
    """A dataset whose columns are known.

    Attributes:
      name: of the dataset.
      root: its directory.
      parts: the training part, and the held-out one if there is one.
      class_names: of all classes.
      spoken: the same where they are words, else ().
    """

    name: str
    root: str
    parts: list[Part]
    class_names: tuple[str, ...]
    spoken: tuple[str, ...]


def opened(
    path: str | os.PathLike,
    image_column: str | None,
    label_column: str | None,
    factory: str,
) -> Opened:
    """Opens a dataset and finds its images and labels."""
    name, found = tables(path, factory)
    root = os.path.abspath(os.fspath(path))
    root = root if os.path.isdir(root) else os.path.dirname(root)
    label = columns.label_column(found[0], label_column, factory)
    parts = []
    for table in found:
        where = f"{factory}: {printable(name)!r}"
        labels = None
        if label is not None and label in table.rows.column_names:
            labels = columns.labels_in(table, label)
            labels = checked_labels(labels, len(labels), where)
            labels = None if (labels < 0).all() else labels
        column = columns.image_column(table, image_column, factory)
        parts.append(Part(table, column, labels))
    known = [part.labels for part in parts if part.labels is not None]
    spoken: tuple[str, ...] = ()
    if label is not None:
        said = getattr(found[0].rows.features[label], "names", None) or ()
        spoken = tuple(map(printable, said))
    names = named_classes(
        np.concatenate(known) if known else None, spoken or None, None, name
    )
    return Opened(name, root, parts, names if known else (), spoken if known else ())


def images_of(
    found: Opened, part: Part, rows: np.ndarray | None, size: int, max_bad: float
) -> Source:
    """A source of rows of a part, None: of all, with nothing held out."""
    count = len(part.table.rows) if rows is None else len(rows)
    where = f"hugging_face {found.root!r}"
    names = _Names(part.table.name, count, rows)
    problems = Problems(where, names, max_bad)
    table = _undecoded(part.table, part.column)
    read = functools.partial(_decoded, table, part.column, found.root, rows, size)
    labels = part.labels if rows is None or part.labels is None else part.labels[rows]
    return Source(
        name=found.name,
        size=count,
        image_shape=(size, size, 3),
        load=loader(read, names, problems, where),
        labels=labels,
        class_names=found.class_names,
        problems=problems,
        digest=functools.partial(_digest, part.table.files, rows, labels),
    )


class _Names(Sequence[str]):
    """What a problem calls a row."""

    def __init__(self, part: str, count: int, rows: np.ndarray | None):
        self._part, self._count, self._rows = part, count, rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at) -> str:
        row = at if self._rows is None else self._rows[at]
        return f"row {row}" + (f" of {self._part}" if self._part else "")


def _undecoded(table: Table, column: str) -> Any:
    """The rows of a table with the column of images alone, as it is stored."""
    rows = table.rows.with_format(None).select_columns([column])
    library = importlib.import_module("datasets")
    if isinstance(rows.features[column], library.Image):
        rows = rows.cast_column(column, library.Image(decode=False))
    return rows


def _digest(files, rows: np.ndarray | None, labels: np.ndarray | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, size in files:
        digest.update(os.fsencode(name) + b"\0%d\0" % size)
    for array in (rows, labels):
        digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()


def _decoded(table, column: str, root: str, rows, size: int, at: int) -> np.ndarray:
    data, path = _stored(table[int(at if rows is None else rows[at])][column])
    if data is None and path is not None:
        path = os.path.join(root, path)
        if not os.path.isfile(path):
            raise DecodeError(f"no bytes, and no file {printable(path)!r}")
        return read_image(path, size=size)
    if data is None:
        raise DecodeError("no image in this row")
    if len(data) > MAX_BYTES:
        raise DecodeError(f"larger than {MAX_BYTES} bytes")
    return decode(data, size=size)


def _stored(cell: Any) -> tuple[bytes | None, str | None]:
    """The bytes of an image, and the path of a file."""
    if isinstance(cell, dict):
        return cell.get("bytes"), cell.get("path")
    return cell, None


def first_images(path: str | os.PathLike) -> Iterator[bytes]:
    """The bytes of the first images of a dataset."""
    _, (table, *_) = tables(path, "hugging_face")
    column = columns.image_column(table, None, "hugging_face")
    for row in _undecoded(table, column):
        data, _ = _stored(row[column])
        yield data or b""

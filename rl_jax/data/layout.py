"""What a path holds: images as files, tar shards, or a dataset of Hugging Face."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from rl_jax.data.decode import shorter_side
from rl_jax.data.folder import first_images, image_paths
from rl_jax.data.tables.opened import PARQUET, is_saved
from rl_jax.data.tables.source import first_images as images_in_tables
from rl_jax.data.webdataset.files import COMPRESSED, SUFFIX, is_pattern
from rl_jax.data.webdataset.source import first_images as images_in_shards
from rl_jax.errors import UsageError

Layout = Literal["folder", "shards", "hugging_face"]
_BELOW = ("", "data", "train", "val", "validation", "test")
_FEW = 16


class Held(NamedTuple):
    """What a path holds, by the names of files.

    Attributes:
      layout: which source reads it.
      images, tars, tables: how many there are of each, where there are two kinds of
        them; images are counted as far as decides.
    """

    layout: Layout | None
    images: int = 0
    tars: int = 0
    tables: int = 0


def layout(path: str | os.PathLike) -> Layout | None:
    """Which source reads a path, by the names of what it holds; nothing is opened.

    A directory that `save_to_disk` wrote is one of Hugging Face. One with tars, or else
    with Parquet, beside fewer images than those are, is one of shards, or of Hugging
    Face: a preview or the tar that images came from decide nothing.

    Args:
      path: of a directory or a file, or a pattern of tars.

    Returns:
      The name of the source; `folder` for any other directory, None for other files
      and where there is nothing.
    """
    return held(path).layout


def held(path: str | os.PathLike) -> Held:
    """`layout`, and what it was chosen by."""
    name = os.fspath(path).lower()
    if is_pattern(path):
        return Held("shards")
    if os.path.isfile(path):
        if name.endswith((SUFFIX, *COMPRESSED)):
            return Held("shards")
        return Held("hugging_face" if name.endswith(PARQUET) else None)
    if not os.path.isdir(path):
        return Held(None)
    if is_saved(path):
        return Held("hugging_face")
    names = [name.lower() for name in _names(path)]
    tars = sum(name.endswith((SUFFIX, *COMPRESSED)) for name in names)
    tables = sum(name.endswith(PARQUET) for name in names)
    if not tars and not tables:
        return Held("folder")
    images = len(list(itertools.islice(image_paths(path), (tars or tables) + 1)))
    if images > (tars or tables):
        return Held("folder", images, tars, tables)
    return Held("shards" if tars else "hugging_face", images, tars, tables)


def _names(path: str | os.PathLike) -> Iterator[str]:
    """Of the files where shards and tables lie; not of a million images below."""
    for inner in _BELOW:
        with (
            contextlib.suppress(OSError),
            os.scandir(os.path.join(path, inner)) as all_,
        ):
            yield from (each.name for each in all_ if each.name[:1] != ".")


def usual_side(path: str | os.PathLike) -> int | None:
    """The shorter side of the images of a path, the median of the first few.

    Args:
      path: as `folder`, `shards` or `hugging_face` takes it.

    Returns:
      In pixels; None where no image can be read.
    """
    readers = {"shards": images_in_shards, "hugging_face": images_in_tables}
    read = readers.get(layout(path) or "", first_images)
    known = []
    # What is wrong with the path, opening it tells.
    with contextlib.suppress(UsageError):
        sides = map(shorter_side, itertools.islice(read(path), _FEW))
        known = sorted(side for side in sides if side)
    return known[len(known) // 2] if known else None

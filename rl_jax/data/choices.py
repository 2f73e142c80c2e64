"""What was taken of a path that holds more than is read."""

import contextlib
import os
from collections.abc import Sequence

from rl_jax.data.folder import listed, part_folders, parts
from rl_jax.data.layout import held
from rl_jax.data.part_names import choice_by_name
from rl_jax.data.tables.opened import choice_of_parts
from rl_jax.data.webdataset.files import SUFFIX
from rl_jax.errors import UsageError
from rl_jax.files import printable

KINDS = {
    "folder": ("a folder of images", "image", "images"),
    "shards": ("tar shards", "tar", "tars"),
    "hugging_face": ("a dataset in Parquet", "file of Parquet", "files of Parquet"),
}
"""What each layout reads, one of its files, several."""


def choices(path: str | os.PathLike) -> list[str]:
    """A line for each thing that was chosen of a path without being asked for.

    Which files are read where there are images, tars or Parquet side by side, and which
    parts of a data set, where it has others. No example is read.

    Args:
      path: of a directory or a file, as `folder`, `shards` or `hugging_face` takes it.
    """
    name = printable(os.path.basename(os.path.abspath(os.fspath(path))))
    lines = []
    # What is wrong with the path, opening it tells.
    with contextlib.suppress(UsageError, OSError):
        found = held(path)
        there = {"folder": found.images, "shards": found.tars}
        there |= {"hugging_face": found.tables}
        aside = [
            f"{count} {KINDS[kind][1 if count == 1 else 2]}"
            for kind, count in there.items()
            if count and kind != found.layout
        ]
        if aside and found.layout:
            lines.append(
                f"{name} is read as {KINDS[found.layout][0]}; left out: "
                f"{', '.join(aside)} (move what you mean to a folder of its own)"
            )
        if found.layout == "hugging_face":
            lines += _of_parts(name, *choice_of_parts(path, "hugging_face"))
        root = os.path.abspath(os.fspath(path))
        if found.layout == "shards" and os.path.isdir(root):
            tars = listed(root, (SUFFIX,), "shards", ".tar files")
            lines += _of_parts(name, *choice_by_name(tars, "shards"))
        if found.layout == "folder":
            taken = [os.path.basename(each) for each in parts(root, "folder")]
            named = part_folders(root)
            if len(taken) > 1 and len(named) > len(taken):
                lines += _of_parts(name, named, taken)
    return lines


def _of_parts(name: str, there: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Which part is learned from and which held out, where that is a choice."""
    if list(there) in ([""], ["train"]) or not taken:
        return []
    shown = [printable(each) for each in taken]
    if len(there) == 1:
        return [f"{name}: {shown[0]} is learned from, its only part"]
    rest = [printable(each) for each in there if each not in taken]
    lines = f"{name}: of its parts {shown[0]} is learned from"
    lines += f", {shown[1]} held out" if len(shown) > 1 else ""
    return [lines + (f"; {', '.join(rest)} not read" if rest else "")]

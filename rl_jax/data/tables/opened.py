"""Datasets of the library `datasets` from local files: which parts and columns."""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rl_jax.data.folder import listed
from rl_jax.data.part_names import choice_by_name, part_of, parts_by_name
from rl_jax.errors import UsageError
from rl_jax.files import printable

PARQUET = ".parquet"
HELD_OUT = ("validation", "val", "valid", "dev", "test")


class Table(NamedTuple):
    """A part of a dataset.

    Attributes:
      name: of the part, "" where it is the whole.
      rows: the `datasets.Dataset`.
      files: name and size in bytes of each of its files.
    """

    name: str
    rows: Any
    files: tuple[tuple[str, int], ...]


def is_saved(path: str | os.PathLike) -> bool:
    """Whether a directory is one that `save_to_disk` wrote."""

    def has(name: str) -> bool:
        return os.path.isfile(os.path.join(path, name))

    return has("dataset_dict.json") or (has("dataset_info.json") and has("state.json"))


def tables(path: str | os.PathLike, factory: str) -> tuple[str, list[Table]]:
    """The name of a dataset, and its training part or that and the one held out.

    Args:
      path: of a directory of `save_to_disk`, or of Parquet, or a file of that.
      factory: whose name errors bear.

    Raises:
      UsageError: there is none, it cannot be read, it has no rows, or several parts and
        none is `train`; or `datasets` is not installed.
    """
    given = os.path.abspath(os.fspath(path))
    found = _found(given, factory)
    for table in found:
        if not len(table.rows):
            where = f" in its part {table.name}" if table.name else ""
            raise UsageError(f"{factory}: {given!r} has no rows{where}")
    return os.path.basename(given), found


def _found(given: str, factory: str) -> list[Table]:
    if not os.path.exists(given):
        raise UsageError(f"{factory}: no such file or directory: {given!r}")
    if os.path.isdir(given) and is_saved(given):
        return _saved(given, factory)
    if os.path.isdir(given):
        files = listed(given, (PARQUET,), factory, "dataset of save_to_disk or Parquet")
        parts = parts_by_name(files, factory)
        return [_parquet(given, part, factory) for part in parts]
    if not given.lower().endswith(PARQUET):
        raise UsageError(
            f"{factory}: {given!r} is no .parquet file, nor a directory of save_to_disk"
        )
    root, name = os.path.split(given)
    return [_parquet(root, [name], factory)]


def _saved(root: str, factory: str) -> list[Table]:
    """Of a directory of `save_to_disk`."""
    found = []
    for name in _chosen(_part_names(root, factory), root, factory):
        where = os.path.join(root, name) if name else root
        with _library(where, factory) as library:
            rows = library.Dataset.load_from_disk(where)
        files = [file["filename"] for file in rows.cache_files]
        found.append(Table(name, rows, _sizes(files, root)))
    return found


def _part_names(root: str, factory: str) -> list[str]:
    """Of a directory of `save_to_disk`; [""] of one that has none."""
    path = os.path.join(root, "dataset_dict.json")
    if not os.path.isfile(path):
        return [""]
    try:
        with open(path, "rb") as file:
            return [os.path.basename(name) for name in json.load(file)["splits"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error, factory) from None


def choice_of_parts(
    path: str | os.PathLike, factory: str
) -> tuple[list[str], list[str]]:
    """The parts that a dataset has, and those that `tables` gives; nothing is opened.

    Args:
      path, factory: as `tables` takes them.

    Raises:
      UsageError: as `tables`, as far as names tell.
    """
    root = os.path.abspath(os.fspath(path))
    if os.path.isdir(root) and is_saved(root):
        names = _part_names(root, factory)
        return names, _chosen(names, root, factory)
    if not os.path.isdir(root):
        return [""], [""]
    return choice_by_name(listed(root, (PARQUET,), factory, "Parquet"), factory)


def _chosen(names: Sequence[str], root: str, factory: str) -> list[str]:
    """The part to train on, and the one held out, of those there are."""
    if len(names) == 1:
        return [names[0]]
    if "train" not in names:
        shown = printable(", ".join(names)) or "none"
        raise UsageError(
            f"{factory}: {root!r} has the parts {shown}, expected train; give the "
            "directory of one"
        )
    return ["train", *[name for name in HELD_OUT if name in names][:1]]


def _parquet(root: str, names: Sequence[str], factory: str) -> Table:
    files = [os.path.join(root, name) for name in names]
    where = files[0] if len(files) == 1 else root
    with _library(where, factory) as library:
        rows = library.Dataset.from_parquet(files)
    return Table(part_of(names[0]), rows, _sizes(files, root))


def _sizes(files: Sequence[str], root: str) -> tuple[tuple[str, int], ...]:
    return tuple((os.path.relpath(f, root), os.path.getsize(f)) for f in files)


@contextlib.contextmanager
def _library(where: str, factory: str) -> Iterator[Any]:
    """The library, without network, its errors as one line."""
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise UsageError(
            f"{factory}: {where!r} needs the package datasets: "
            "pip install 'rl-jax[datasets]'"
        ) from None
    config, said = library.config, library.logging.get_verbosity()
    offline = config.HF_HUB_OFFLINE
    silent = library.is_progress_bar_enabled() and not sys.stderr.isatty()
    config.HF_HUB_OFFLINE = True
    library.logging.set_verbosity(library.logging.CRITICAL)
    if silent:
        library.disable_progress_bars()
    try:
        yield library
    except UsageError:
        raise
    except Exception as error:  # of Arrow, fsspec, the builder, each its own
        raise _unreadable(where, error.__cause__ or error, factory) from None
    finally:
        config.HF_HUB_OFFLINE = offline
        library.logging.set_verbosity(said)
        if silent:
            library.enable_progress_bars()


def _unreadable(where: str, error: BaseException, factory: str) -> UsageError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UsageError(f"{factory}: {where!r} cannot be read: {printable(reason)}")

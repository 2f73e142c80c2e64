"""A source from a directory of JPEG, PNG and WebP files."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator

import numpy as np

from rl_jax.data.arguments import at_least, whole
from rl_jax.data.decode import MAX_BYTES, read_image
from rl_jax.data.problems import Problems
from rl_jax.data.source import Source
from rl_jax.data.stand_ins import loader
from rl_jax.errors import UsageError
from rl_jax.files import printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def folder(
    path: str | os.PathLike, *, size: int = 224, max_bad: float = 0.01
) -> Source:
    """A source from a directory tree of images.

    All files with the suffix .jpg, .jpeg, .png or .webp (any case) in the order of
    their sorted paths; hidden ones are skipped, links are followed, each directory
    once. If at least two first-level sub-directories hold images, their names are
    the labels. If the first-level sub-directories are `train` and one or both of
    `val` and `test`, then `train` is the source and `val` (else `test`) its
    `held_out`.

    Every image is decoded to `size` x `size` RGB (see `decode`). One that cannot be
    decoded is logged once and replaced by the next one in order that can, on every
    run the same; its label becomes -1.

    Args:
      path: the directory.
      size: side of the images in pixels, >= 1.
      max_bad: the largest share of undecodable files among those read, in [0, 1];
        judged once 100 files are read, and a single bad file is always let pass.

    Returns:
      A source that decodes from disk. Loading raises UsageError when more than
      `max_bad` of the files read cannot be decoded.

    Raises:
      UsageError: no such directory, no permission, no images, or bad arguments.
    """
    check_decoding(size, max_bad, "folder")
    root = directory(path, "folder", "npz reads .npz files")
    roots = parts(root, "folder")
    files = [listed(part, SUFFIXES, "folder", "images") for part in roots]
    classes = classes_of(files)

    held_out = None
    for part, names in zip(reversed(roots), reversed(files), strict=True):
        held_out = images_of(part, names, classes, size, max_bad, held_out)
    assert held_out is not None
    return held_out._replace(name=os.path.basename(root))


def first_images(path: str | os.PathLike) -> Iterator[bytes]:
    """The bytes of images below a directory in a fixed order, read as asked for."""
    for name in image_paths(path):
        with contextlib.suppress(OSError), open(name, "rb") as file:
            yield file.read(MAX_BYTES)


def image_paths(path: str | os.PathLike) -> Iterator[str]:
    """Paths of images in a fixed order; nothing more is listed than is asked for."""
    visited = set()
    for where, folders, names in os.walk(path, followlinks=True):
        # As `_files` goes: into what links lead to, and nowhere twice.
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(where, name)
            wanted = name.lower().endswith(SUFFIXES) and not name.startswith(".")
            # Reading a pipe would wait for ever.
            if wanted and os.path.isfile(path):
                yield path


def check_decoding(size: int, max_bad: float, factory: str) -> None:
    """Refuse a size or a share of undecodable files that makes no sense."""
    whole(factory, size=size)
    at_least(factory, size=(size, 1))
    if not 0 <= max_bad <= 1:
        raise UsageError(f"{factory}: max_bad must be in [0, 1], got {max_bad}")


def directory(path: str | os.PathLike, factory: str, hint: str) -> str:
    """The absolute path of a directory; refuses what is none, with a hint."""
    root = os.path.abspath(os.fspath(path))
    if not os.path.exists(root):
        raise UsageError(f"{factory}: no such directory: {root!r}")
    if not os.path.isdir(root):
        raise UsageError(f"{factory}: {root!r} is not a directory; {hint}")
    return root


def parts(root: str, factory: str) -> list[str]:
    """The root, or its train and held-out directories where it has no others.

    Args:
      root: a directory.
      factory: whose name the error bears.

    Raises:
      UsageError: it cannot be listed.
    """
    with _listing(factory):
        return _parts(root)


def listed(root: str, suffixes: tuple[str, ...], factory: str, what: str) -> list[str]:
    """Relative paths of all files with these suffixes, sorted part by part.

    Args:
      root: a directory.
      suffixes: in lower case, with the point.
      factory, what: whose name the error bears, and what it says was searched for.

    Raises:
      UsageError: no permission, or there are none.
    """
    with _listing(factory):
        return _files(root, suffixes, f"{factory}: no {what}")


@contextlib.contextmanager
def _listing(factory: str):
    try:
        yield
    except OSError as error:
        where = printable(str(error.filename))
        message = f"{factory}: cannot list {where!r}: {error.strerror}"
        raise UsageError(message) from None


def classes_of(files: list[list[str]]) -> list[str]:
    """First-level directories of the first part and the others, if it has several."""
    found = [{first for name in names if (first := _first(name))} for names in files]
    return sorted(set().union(*found)) if len(found[0]) > 1 else []


def labels_of(names: list[str], classes: list[str]) -> np.ndarray | None:
    """[n] int32, the class of each path, -1 in none; None without classes."""
    if not classes:
        return None
    of = {name: label for label, name in enumerate(classes)}
    return np.array([of.get(_first(name), -1) for name in names], np.int32)


def part_folders(root: str) -> list[str]:
    """The first-level directories called as parts are, sorted."""
    named = [name for name, is_dir in _entries(root) if is_dir]
    return [name for name in ("train", "val", "test") if name in named]


def _parts(root: str) -> list[str]:
    """The root, or its train and held-out directories."""
    found = {name for name, is_dir in _entries(root) if is_dir}
    if "train" not in found or len(found) < 2 or found - {"train", "val", "test"}:
        return [root]
    test = "val" if "val" in found else "test"
    return [os.path.join(root, "train"), os.path.join(root, test)]


def images_of(
    root: str,
    names: list[str],
    classes: list[str],
    size: int,
    max_bad: float,
    held_out: Source | None,
) -> Source:
    """A source of the given images below a directory, as `folder` makes it."""
    labels = labels_of(names, classes)
    problems = Problems(f"folder {root!r}", names, max_bad)
    read = functools.partial(_read, root, names, size)
    return Source(
        name=os.path.basename(root),
        size=len(names),
        image_shape=(size, size, 3),
        load=loader(read, names, problems, f"folder {root!r}"),
        labels=labels,
        class_names=tuple(printable(name) for name in classes),
        held_out=held_out,
        problems=problems,
        digest=functools.partial(_digest, root, names, labels),
        files=tuple(map(printable, names)),
    )


def _digest(root: str, names: list[str], labels: np.ndarray | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(os.fsencode(name) + b"\0%d\0" % _size(os.path.join(root, name)))
    digest.update(b"" if labels is None else labels.data)
    return digest.hexdigest()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1  # a dangling link


def _read(root: str, names: list[str], size: int, index: int) -> np.ndarray:
    return read_image(os.path.join(root, names[index]), size=size)


def _files(root: str, suffixes: tuple[str, ...], nothing: str) -> list[str]:
    found, others, visited = [], [], set()

    waiting = [("", True)]  # the next one last
    while waiting:
        relative, is_dir = waiting.pop()
        if not is_dir:
            wanted = relative.lower().endswith(suffixes)
            (found if wanted else others).append(relative)
            continue
        where = os.path.join(root, relative)
        status = os.stat(where)
        # A link back up would otherwise be followed for ever.
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        inner = [(os.path.join(relative, name), kind) for name, kind in _entries(where)]
        waiting += reversed(inner)
    if not found:
        also = f", found {len(others)} other files" if others else ""
        raise UsageError(
            f"{nothing} in {root!r}: searched {len(visited)} directories for "
            f"{', '.join(suffixes)}{also}"
        )
    return found


def _entries(where: str) -> list[tuple[str, bool]]:
    """Visible (name, is a directory), sorted; only directories and regular files."""
    with os.scandir(where) as entries:
        visible = [e for e in entries if not e.name.startswith(".")]
        kinds = [(e.name, _kind(e)) for e in visible]
    return sorted((name, kind == "dir") for name, kind in kinds if kind)


def _kind(entry: os.DirEntry) -> str:
    try:
        # A dangling link counts as a file, to be reported as unreadable.
        if entry.is_dir():
            return "dir"
        return "file" if entry.is_file() or not os.path.exists(entry.path) else ""
    except OSError:
        return "file"


def _first(name: str) -> str:
    head, separator, _ = name.partition(os.sep)
    return head if separator else ""

"""Which tar files a path means: those of a folder, of a pattern, or one."""

import os
import re
from collections.abc import Iterator

from rl_jax.data.folder import listed
from rl_jax.data.part_names import parts_by_name
from rl_jax.errors import UsageError
from rl_jax.files import printable

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000


def is_pattern(path: str | os.PathLike) -> bool:
    """Whether a path has braces that stand for several tars."""
    text = os.fspath(path)
    return bool(_BRACES.search(text)) and text.endswith(SUFFIX)


def shard_parts(path: str | os.PathLike, factory: str) -> tuple[str, list[list[str]]]:
    """The folder of some tars, and the paths below it of one part or of two.

    Args:
      path: of a directory, a tar, or a pattern.
      factory: whose name errors bear.

    Returns:
      An absolute path; relative ones, sorted, of the training part and the held-out one
      where names tell them apart (see `parts_by_name`).

    Raises:
      UsageError: there are none, some of a pattern are missing, or they are compressed.
    """
    given = os.path.abspath(os.fspath(path))
    if os.path.isdir(given):
        return given, parts_by_name(_below(given, factory), factory)
    if given.lower().endswith(COMPRESSED):
        raise UsageError(_compressed(given, factory))
    files = sorted({*_expanded(given, factory)})
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        also = f", nor {len(missing) - 1} more of {len(files)}" if missing[1:] else ""
        raise UsageError(f"{factory}: no such file: {missing[0]!r}{also}")
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    names = [os.path.relpath(file, root) for file in files]
    return root, parts_by_name(names, factory)


def _below(root: str, factory: str) -> list[str]:
    found = listed(root, (SUFFIX, *COMPRESSED), factory, ".tar files")
    tars = [name for name in found if name.lower().endswith(SUFFIX)]
    known = {name[: -len(SUFFIX)] for name in tars}
    for name in found:
        # One that was unpacked, too, is let lie.
        ending = next((e for e in COMPRESSED if name.lower().endswith(e)), None)
        if ending and name[: -len(ending)] not in known:
            raise UsageError(_compressed(os.path.join(root, name), factory))
    return tars


def _compressed(path: str, factory: str) -> str:
    return (
        f"{factory}: {path!r} is compressed, so that its parts have no place; "
        "unpack it to a .tar, as with gunzip: its images are compressed already"
    )


def _expanded(pattern: str, factory: str) -> Iterator[str]:
    """Every path of a pattern, as a shell writes `{0..9}` and `{a,b}` out."""
    waiting, count = [pattern], 0
    while waiting:
        text = waiting.pop()
        found = _BRACES.search(text)
        if found is None:
            count += 1
            if count > _MOST:
                raise UsageError(
                    f"{factory}: {printable(pattern)!r} stands for more than "
                    f"{_MOST:,} files; give a part of them"
                )
            yield text
            continue
        before, after = text[: found.start()], text[found.end() :]
        waiting += [before + each + after for each in _choices(found[1])]


def _choices(inside: str) -> list[str]:
    found = _RANGE.fullmatch(inside)
    if found is None:
        return inside.split(",")
    first, last = int(found[1]), int(found[2])
    # As many digits as the ends have, where one of them begins with 0.
    width = max(map(len, found.groups())) if "0" in (found[1][0], found[2][0]) else 0
    numbers = range(min(first, last), min(max(first, last), first + _MOST) + 1)
    return [f"{number:0{width}}" for number in numbers]

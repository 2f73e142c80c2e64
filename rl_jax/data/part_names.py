"""Which files are of the training part and which are kept for testing, by name."""

import re

from rl_jax.errors import UsageError
from rl_jax.files import printable

_WORD = re.compile(r"(?<![a-z])(train|val|test)(?:ing|idation)?(?![a-z])")


def part_of(name: str) -> str:
    """`train`, `val`, `test` or "" by the first such word in a relative path.

    `train/0.tar`, `train-00.tar`, `train00.tar` and `imagenet1k-train-00.tar` are of
    one part; `validation` is `val`; `latest.tar` is of none.
    """
    found = _WORD.search(name.lower())
    return found[1] if found else ""


def parts_by_name(names: list[str], factory: str) -> list[list[str]]:
    """The files as they are, or those to train on and those held out.

    Args:
      names: relative paths.
      factory: whose name the error bears.

    Returns:
      `[names]`, or where some are of `train` and some of `val` or `test`, `[train,
      val]`, else `[train, test]`.

    Raises:
      UsageError: with such parts, some files are of none.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(part_of(name), []).append(name)
    if "train" not in found or not found.keys() & {"val", "test"}:
        return [names]
    if "" in found:
        raise UsageError(
            f"{factory}: {printable(found[''][0])!r} is of no part, where others are "
            "of train and val or test; name it as one of these, or move it elsewhere"
        )
    return [found["train"], found["val"] if "val" in found else found["test"]]


def choice_by_name(names: list[str], factory: str) -> tuple[list[str], list[str]]:
    """The parts that files are of, and those that `parts_by_name` takes.

    Args:
      names, factory: as `parts_by_name` takes them.

    Raises:
      UsageError: as `parts_by_name`.
    """
    taken = [part_of(part[0]) for part in parts_by_name(names, factory) if part]
    there = list(dict.fromkeys(map(part_of, names)))
    # Without a part to hold out all files are read, whatever they are called.
    return (there, taken) if len(taken) == 2 or len(there) == 1 else ([""], [""])

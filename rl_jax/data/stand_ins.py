"""The image of an example, or of the next one where it cannot be decoded."""

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from rl_jax.data.decode import DecodeError
from rl_jax.data.problems import Problems
from rl_jax.errors import UsageError
from rl_jax.files import printable


def loader(
    read: Callable[[int], np.ndarray],
    names: Sequence[str],
    problems: Problems,
    where: str,
) -> Callable[[int], np.ndarray]:
    """The `load` of a source of files, some of which may be no images.

    Which one stands in depends on the files alone, not on what was read before.

    Args:
      read: `(index) -> [H, W, C]`, which raises DecodeError; picklable.
      names: of all files.
      problems: where what was read is recorded.
      where: the factory and the place that errors name.

    Returns:
      A function that raises UsageError where no file can be decoded, or too many
      cannot.
    """
    return functools.partial(_load, read, names, problems, where)


def _load(read, names, problems: Problems, where: str, index: int) -> np.ndarray:
    index = int(index)
    for at in itertools.chain(range(index, len(names)), range(index)):
        if problems.bad_at(at):
            continue
        try:
            image = read(at)
        except DecodeError as error:
            problems.record(at, str(error))
            continue
        problems.record(at)
        return image
    factory, _, place = where.partition(" ")
    raise UsageError(
        f"{factory}: none of the {len(names)} images in {place} can be decoded, "
        f"the first is {printable(names[0])!r}"
    )

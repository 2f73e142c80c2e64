"""What a run keeps of steps that were not finite."""

import pathlib
from collections.abc import Callable

import numpy as np

from rl_jax import files, train

MOST_KEPT = 20
"""Files of steps that were not finite, at most so many in a folder."""


def keep(folder: pathlib.Path, say: Callable[[str], None], lost: train.LostSteps):
    """Says what was lost, and writes the ids of the first batch."""
    path, where = folder / f"nonfinite-{lost.step}.npz", ""
    if len(list(folder.glob("nonfinite-*.npz"))) < MOST_KEPT:
        try:
            with files.replacing(path) as file:
                np.savez(file, step=lost.step, index=lost.index)
            where = f"; the ids of its examples are in {path}"
        except OSError as error:
            where = f"; {path.name} not written: {error.strerror or error}"
    say(f"warning: {lost}{where}")

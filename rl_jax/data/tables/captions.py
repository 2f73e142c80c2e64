"""The rows of a dataset that have captions, and those captions."""

import os

import numpy as np

from rl_jax.data.paired import Found, Pairs, with_captions
from rl_jax.data.source import Source
from rl_jax.data.tables.columns import caption_column, captions_in
from rl_jax.data.tables.opened import tables
from rl_jax.data.tables.source import Opened, Part, images_of, opened
from rl_jax.errors import UsageError


def pairs_in_tables(
    path: str | os.PathLike, column: str | None, *, size: int, max_bad: float
) -> Found:
    """Images and captions of a dataset, of one part or of two.

    Args:
      path, size, max_bad: as `hugging_face` takes them.
      column: of the captions; None: that of a usual name.

    Raises:
      UsageError: as `hugging_face`, or there are no captions.
    """
    found = opened(path, None, None, "captioned")
    named = caption_column(found.parts[0].table, column, "captioned")
    pairs = [_pairs(found, part, named, size, max_bad) for part in found.parts]
    return Found(found.name, pairs, found.spoken)


def captions_in_tables(path: str | os.PathLike) -> bool:
    """Whether a dataset has a column of captions by its name and type."""
    _, (table, *_) = tables(path, "captioned")
    try:
        return bool(caption_column(table, None, "captioned"))
    except UsageError:
        return False


def _pairs(found: Opened, part: Part, column: str, size: int, max_bad: float) -> Pairs:
    counts, texts = captions_in(part.table, column)
    there = with_captions(counts > 0, found.root)
    labels = None if part.labels is None else part.labels[there]

    def images(rows: np.ndarray) -> Source:
        return images_of(found, part, there[rows], size, max_bad)

    return Pairs(images, labels, counts[there], texts)

"""A source of images with captions, in a directory, in tar shards or in tables."""

import itertools
import os

import numpy as np

from rl_jax.data import tokens
from rl_jax.data.arguments import whole
from rl_jax.data.caption_file import FILES, captions_of
from rl_jax.data.folder import (
    check_decoding,
    classes_of,
    directory,
    images_of,
    labels_of,
    parts,
)
from rl_jax.data.layout import layout
from rl_jax.data.paired import Found, Pairs, Reading, paired
from rl_jax.data.source import Source
from rl_jax.data.split import check_share
from rl_jax.data.tables.captions import captions_in_tables, pairs_in_tables
from rl_jax.data.webdataset.captions import captions_in_shards, pairs_in_shards


def captioned(
    path: str | os.PathLike,
    *,
    size: int = 256,
    vocab_size: int = 8192,
    length: int = 32,
    held_out: float = 0.1,
    lowercase: bool = True,
    max_bad: float = 0.01,
    limit_bytes: int = 1 << 28,
    caption_column: str | None = None,
    vocabulary: tuple[str, ...] | None = None,
) -> Source:
    """A source of images and their captions.

    A directory of images names, in `captions.csv` (with a header) or `captions.jsonl`
    (an object a line), an image by its path below it, in the column `image`, `file` or
    `filepath`, and a caption in `caption`, `title` or `text`. Several lines of one
    image are several captions. Labels come from first-level sub-directories, as in
    `folder`. Tars (see `shards`) have a sample's caption in its `.txt`, or else under
    `caption` in its `.json`; a dataset (see `hugging_face`) in a column of texts, or of
    lists of texts, called `caption`, `captions`, `title`, `text` or alike.

    Images with fewer captions than others repeat theirs; those without one are left
    out. Images are decoded, and undecodable ones replaced, as `folder` does it.

    Held out are, where the directory has no captions itself, `val` (else `test`)
    beside `train`, each with its own captions; of tars and datasets the part that
    `shards` and `hugging_face` hold out; where there is none, a fixed share of the
    images. The tokens are learned from the training captions alone (see
    `train_pieces`, which needs the package `tokenizers`).

    Args:
      path: the directory, or what `shards` or `hugging_face` takes.
      size: side of the images in pixels, >= 1.
      vocab_size: the most tokens there may be, in [259, 2^20].
      length: tokens of a caption, in [1, 2^13]; longer ones are cut.
      held_out: the share kept for testing, in [0, 1); 0: none.
      lowercase: whether to drop case.
      max_bad: the largest share of undecodable files, as in `folder`.
      limit_bytes: the most that a file of captions may hold.
      caption_column: of the captions, in a file of them or a dataset; None: as above.
      vocabulary: that of another source of captions, whose tokens a trained network
        reads; None: learned here.

    Returns:
      A source that decodes from disk, with the field `tokens`, int32 [n, T, length]
      for at most T captions of an image, or [n, length] if each has one; its
      `vocabulary`; and, where there are labels, `prompts` that name the classes; a
      warning tells of classes whose prompts are the same.

    Raises:
      UsageError: no captions, unreadable ones, one of an image that is not there or
        outside the directory, or bad arguments.
    """
    check_decoding(size, max_bad, "captioned")
    whole("captioned", limit_bytes=limit_bytes)
    check_share(held_out, "captioned")
    tokens.check_length(length)
    reading = Reading(vocab_size, length, lowercase, vocabulary)
    decoding = {"size": size, "max_bad": max_bad}
    kind = "folder" if _has_file(path) else layout(path)
    if kind == "shards":
        found = pairs_in_shards(path, **decoding)
    elif kind == "hugging_face":
        found = pairs_in_tables(path, caption_column, **decoding)
    else:
        found = _pairs_in_folder(path, caption_column, limit_bytes, **decoding)
    return paired(found, reading, held_out=held_out)


def _pairs_in_folder(
    path: str | os.PathLike,
    caption_column: str | None,
    limit_bytes: int,
    *,
    size: int,
    max_bad: float,
) -> Found:
    root = directory(path, "captioned", "it must hold images and their captions")
    has_captions = any(os.path.lexists(os.path.join(root, name)) for name in FILES)
    roots = [root] if has_captions else parts(root, "captioned")
    found = [captions_of(part, limit_bytes, caption_column) for part in roots]
    classes = classes_of([list(part) for part in found])

    def pairs(root: str, captions: dict[str, list[str]]) -> Pairs:
        names = list(captions)

        def images(rows: np.ndarray) -> Source:
            chosen = [names[row] for row in rows]
            return images_of(root, chosen, classes, size, max_bad, None)

        return Pairs(
            images,
            labels_of(names, classes),
            np.array(list(map(len, captions.values()))),
            [*itertools.chain.from_iterable(captions.values())],
        )

    made = [pairs(*part) for part in zip(roots, found, strict=True)]
    return Found(os.path.basename(root), made, classes)


def has_captions(path: str | os.PathLike) -> bool:
    """Whether `captioned` would find captions, by the first few.

    Args:
      path: as `captioned` takes it.
    """
    if _has_file(path):
        return True
    kind = layout(path)
    if kind == "shards":
        return captions_in_shards(path)
    return kind == "hugging_face" and captions_in_tables(path)


def _has_file(path: str | os.PathLike) -> bool:
    """Whether a directory, or its training or held-out part, has a file of captions."""
    return any(
        os.path.isfile(os.path.join(path, part, name))
        for part in ("", "train", "val", "test")
        for name in FILES
    )

"""The images of tar shards that have captions, and those captions."""

import itertools
import json
import os
from collections.abc import Iterator

import numpy as np

from rl_jax.data.packed import Taken, packed
from rl_jax.data.paired import Found, Pairs, with_captions
from rl_jax.data.source import Source
from rl_jax.data.webdataset.index import TEXTS, Index
from rl_jax.data.webdataset.source import Shards, first_files, images_of, opened

_FEW = 16
_MAX_BYTES = 1 << 20


def pairs_in_shards(path: str | os.PathLike, *, size: int, max_bad: float) -> Found:
    """Images and captions of tars, of one part or of two.

    Args:
      path, size, max_bad: as `shards` takes them.

    Raises:
      UsageError: as `shards`, or there are no captions.
    """
    found = opened(path, "captioned")
    pairs = [_pairs(found, index, size, max_bad) for index in found.parts]
    return Found(os.path.basename(found.root), pairs, found.spoken)


def captions_in_shards(path: str | os.PathLike) -> bool:
    """Whether one of the first few texts in tars is a caption."""
    first = itertools.islice(first_files(path, TEXTS), _FEW)
    return any(_caption(content, suffix == b"json") for suffix, content in first)


def _pairs(found: Shards, index: Index, size: int, max_bad: float) -> Pairs:
    texts = packed(_texts(index))
    there = with_captions(texts.lengths() > 0, found.root)
    labels = index.rows["label"][there] if found.labelled else None

    def images(rows: np.ndarray) -> Source:
        return images_of(found, index.take(there[rows]), size, max_bad)

    return Pairs(images, labels, np.ones(len(there), int), Taken(texts, there))


def _texts(index: Index) -> Iterator[bytes]:
    for row in index.rows:
        content = b""
        if row["text_size"]:
            size = min(row["text_size"], _MAX_BYTES)
            content = index.read(row["shard"], row["text_offset"], size)
        yield _caption(content, row["text_is_json"])


def _caption(content: bytes, is_json: bool) -> bytes:
    """A text, or `caption` of an object of JSON; b"" where there is none."""
    if not is_json:
        return content.strip()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return b""
    said = found.get("caption") if isinstance(found, dict) else None
    return said.strip().encode(errors="replace") if isinstance(said, str) else b""

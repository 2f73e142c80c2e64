"""Texts of images and images of texts, found among all of a set."""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.directions import unit_rows
from rl_jax.pairwise.top_k import top_k


class Recall(NamedTuple):
    """Recall@k of a set of images and texts.

    Attributes:
      image_to_text: k -> share of images with a text of theirs among the k nearest.
      text_to_image: k -> share of texts with an image of theirs among the k nearest.
    """

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]


@checked
def retrieval_recall(
    images: chex.Array,
    texts: chex.Array,
    captions: chex.Array,
    *,
    k: Sequence[int] = (1, 5),
) -> Recall:
    """Recall@k in both directions, by cosine (Karpathy & Li 2015, arXiv:1412.2306).

    A text may belong to several images and an image have several texts; one of them
    among the k nearest is a hit. Texts that say the same must be one row of `texts`,
    or a right answer counts as wrong. The similarities are never held at once.

    Args:
      images: [N, D] of any float dtype; normalised here, in float32.
      texts: [M, D].
      captions: int [N, T], for each image the rows of `texts` that belong to it; an
        image with fewer than T repeats them.
      k: how many of the nearest are looked at, each >= 1; no more than there are.

    Returns:
      The shares, in [0, 1]. Equal cosines: the lower row comes first; a row of zeros
        has cosine 0 with every other.

    Raises:
      UsageError: for shapes that do not fit together, NaN, or captions or k out of
        range.
    """
    images, texts = jnp.asarray(images), jnp.asarray(texts)
    captions, most = np.asarray(captions), max(k, default=0)
    _check(images, texts, captions, k)
    images, texts = unit_rows(images), unit_rows(texts)
    found = np.asarray(top_k(images, texts, k=min(most, len(texts)))[1])
    back = np.asarray(top_k(texts, images, k=min(most, len(images)))[1])
    hits = (found[:, :, None] == captions[:, None, :]).any(2)
    rows = np.arange(len(texts))[:, None, None]
    hits_back = (captions[back] == rows).any(2)

    def shares(hits):
        return {each: float(hits[:, :each].any(1).mean()) for each in k}

    return Recall(shares(hits), shares(hits_back))


def _check(images, texts, captions, k) -> None:
    shapes = f"{images.shape}, {texts.shape} and {captions.shape}"
    rows = images.ndim == texts.ndim == 2 and images.shape[1] == texts.shape[1]
    paired = captions.ndim == 2 and len(captions) == len(images) and captions.size
    if not (rows and paired):
        raise UsageError(
            "retrieval_recall: expected images [N, D], texts [M, D] and captions "
            f"[N, T], got {shapes}"
        )
    if not (
        np.issubdtype(captions.dtype, np.integer)
        and 0 <= captions.min() <= captions.max() < len(texts)
    ):
        raise UsageError(
            f"retrieval_recall: captions must be rows of the {len(texts)} texts, got "
            f"{captions.dtype} in [{captions.min()}, {captions.max()}]"
        )
    arguments.features("retrieval_recall", images=images)
    arguments.features("retrieval_recall", texts=texts)
    if not k:
        raise UsageError("retrieval_recall: expected one k or more, got none")
    for each in k:
        arguments.counts("retrieval_recall", k=each)

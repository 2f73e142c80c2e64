"""Real handwritten digits that need no download."""

import functools
from typing import Any

import numpy as np

from rl_jax.data.arrays import arrays, digest
from rl_jax.data.digit_captions import digit_prompts, vocabulary
from rl_jax.data.source import Source
from rl_jax.data.split import stratified

_HELD_OUT = 500


def digits(*, captions: bool = False) -> Source:
    """Handwritten digits of 43 writers (Alpaydin & Kaynak 1998), from scikit-learn.

    1,797 images of 8x8 pixels, the test part of the UCI set. The ink count v of a
    pixel, 0 .. 16, becomes round(v · 255 / 16). The split is fixed and stratified:
    `held_out` holds 500 images, each class in proportion to its size (largest
    remainders), drawn by raw Philox bits, so that it never changes.

    Args:
      captions: whether each image has, as the field `tokens` [n, 6, 10], the six texts
        of `digit_prompts().seen` that name its digit.

    Returns:
      A source of 1,297 images [8, 8, 1] with labels 0 .. 9, held in memory;
      `held_out` has the other 500. Both are in scikit-learn's order.
    """
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    labels = data.target.astype(np.int32)
    held = stratified(labels, _HELD_OUT)
    names = tuple("0123456789")
    test = arrays(images[held], labels[held], name="digits held out", class_names=names)
    if captions:
        test = _captioned(test)
    source = arrays(
        images[~held], labels[~held], name="digits", class_names=names, held_out=test
    )
    return _captioned(source) if captions else source


def _captioned(source: Source) -> Source:
    prompts = digit_prompts()
    rows = prompts.seen[source.labels]
    rows.flags.writeable = False
    return source._replace(
        fields={"tokens": rows},
        vocabulary=vocabulary(),
        prompts=prompts.seen,
        unseen_prompts=prompts.unseen,
        digest=functools.partial(digest, source.images, source.labels, rows),
    )

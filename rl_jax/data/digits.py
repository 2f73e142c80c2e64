"""Real handwritten digits that need no download."""

from typing import Any

import numpy as np

from rl_jax.data.arrays import arrays
from rl_jax.data.order import epoch_order
from rl_jax.data.source import Source

_SPLIT_SEED = 20_261_123
_HELD_OUT = 500


def digits() -> Source:
    """Handwritten digits of 43 writers (Alpaydin & Kaynak 1998), from scikit-learn.

    1,797 images of 8x8 pixels, the test part of the UCI set. The ink count v of a
    pixel, 0 .. 16, becomes round(v · 255 / 16). The split is fixed and stratified:
    `held_out` holds 500 images, each class in proportion to its size (largest
    remainders), drawn by raw Philox bits, so that it never changes.

    Returns:
      A source of 1,297 images [8, 8, 1] with labels 0 .. 9, held in memory;
      `held_out` has the other 500. Both are in scikit-learn's order.
    """
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    labels = data.target.astype(np.int32)
    held = _held_out(labels, _HELD_OUT)
    names = tuple("0123456789")
    test = arrays(images[held], labels[held], name="digits held out", class_names=names)
    return arrays(
        images[~held], labels[~held], name="digits", class_names=names, held_out=test
    )


def _held_out(labels: np.ndarray, count: int) -> np.ndarray:
    sizes = np.bincount(labels)
    whole, rest = np.divmod(sizes * count, len(labels))
    whole[np.argsort(-rest, kind="stable")[: count - whole.sum()]] += 1
    held = np.zeros(len(labels), bool)
    for label, take in enumerate(whole):
        members = np.flatnonzero(labels == label)
        held[members[epoch_order(_SPLIT_SEED, label, len(members))[:take]]] = True
    return held

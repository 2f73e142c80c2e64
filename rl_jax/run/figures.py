"""What the page draws of a representation: a map, and nearest neighbours."""

import pathlib

import numpy as np

from rl_jax import data, evaluate, files
from rl_jax.run.split import Part

MAX_POINTS = 1000


def write(path: pathlib.Path, h: np.ndarray, part: Part) -> None:
    """Writes `figures.npz`: a t-SNE map of h, and a few images with their nearest.

    Args:
      path: of the file; replaced whole.
      h: [m, D] of the examples of `part`, at least 4 images.
      part: the scored examples.
    """
    chosen = np.linspace(0, len(h) - 1, min(len(h), MAX_POINTS)).astype(int)
    queries = np.linspace(0, len(h) - 1, min(len(h), 8)).astype(int)
    k = min(8, len(h) - 1)
    near = evaluate.nearest(h, queries, k=k)
    plane = np.pad(h[chosen], ((0, 0), (0, max(0, 2 - h.shape[1]))))
    shown = part.index[np.concatenate([queries, near.ravel()])]
    pictures = data.examples(part.source, shown)["image"]
    with files.replacing(path) as file:
        np.savez(
            file,
            map=evaluate.tsne(plane, seed=0),
            map_labels=part.labels[chosen],
            query_images=pictures[: len(queries)],
            query_labels=part.labels[queries],
            neighbour_images=pictures[len(queries) :].reshape(
                *near.shape, *pictures.shape[1:]
            ),
            neighbour_labels=part.labels[near],
        )

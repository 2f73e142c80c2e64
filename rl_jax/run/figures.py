"""What the page draws: a map, nearest neighbours, what is made of images again."""

import pathlib

import jax
import numpy as np

from rl_jax import data, evaluate, files
from rl_jax.run.encode import encode_batch
from rl_jax.run.measures import spread
from rl_jax.run.split import Part
from rl_jax.run.trained import Run

MAX_POINTS = 1000
REMADE = 8
FILLED_IN = ("mae", "simmim")
"""Methods that copy what they were shown."""
_GREY = 128


def write(
    path: pathlib.Path, h: np.ndarray, part: Part, remade: dict[str, np.ndarray]
) -> None:
    """Writes `figures.npz`: a t-SNE map of h, and a few images with their nearest.

    Args:
      path: of the file; replaced whole.
      h: [m, D] of the examples of `part`, at least 4 images.
      part: the scored examples.
      remade: of `reconstructed`.
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
            **remade,  # pyright: ignore[reportArgumentType]
        )


def reconstructed(run: Run, part: Part) -> dict[str, np.ndarray]:
    """Scored images and what the method makes of them; {} where it makes none.

    Returns:
      uint8 [k, H, W, C] each: `originals` as the encoder is shown them, `remade`, and
      where the method fills in what it was not shown, `seen`, with that in grey.
    """
    method, augment = run.parts.method, run.parts.augment
    few = spread(len(part.index), REMADE)
    batch = data.examples(part.source, part.index[few])

    @jax.jit
    def look(params, state, batch):
        found = encode_batch(method, augment, params, state, batch)
        image = batch["image"]
        ends = (augment.clean(jax.numpy.full_like(image, v)) for v in (0, 255))
        return found.get("reconstruction"), augment.clean(image), *ends

    remade, *told = look(run.state.params, run.state.state, batch)
    clean, low, high = map(np.asarray, told)
    if remade is None or remade.size != clean.size or not (high > low).all():
        return {}
    remade = np.asarray(remade).reshape(clean.shape)

    def pixels(x):
        return (255 * np.clip((x - low) / (high - low), 0, 1)).round().astype(np.uint8)

    found = {"originals": pixels(clean), "remade": pixels(remade)}
    if run.recipe.method.factory in FILLED_IN:
        shown = (remade == clean).all(-1, keepdims=True)
        found["seen"] = np.where(shown, found["originals"], np.uint8(_GREY))
    return found

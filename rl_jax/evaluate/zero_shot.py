"""Classification by texts that name the classes; nothing is trained."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.directions import unit_rows
from rl_jax.evaluate.labels import class_labels


@checked
def class_embeddings(prompts: chex.Array) -> chex.Array:
    """One embedding for each class (Radford et al. 2021, arXiv:2103.00020, 3.1.4).

    w_c = normalise(mean_t normalise(u_ct)): every template counts the same, however
    long its embedding is.

    Args:
      prompts: [C, T, D], the texts u of T templates for each of C classes; normalised
        here, in float32.

    Returns:
      float32 [C, D], rows of unit length; zeros where the texts of a class cancel.

    Raises:
      UsageError: for another rank, without classes or templates, or for NaN.
    """
    return _checked_embeddings("class_embeddings", prompts)


@checked
def zero_shot(images: chex.Array, prompts: chex.Array) -> chex.Array:
    """The class whose texts are nearest to an image (arXiv:2103.00020, 3.1.2).

    argmax_c cos(z, w_c), w the `class_embeddings`; equal cosines go to the lower class.

    Args:
      images: [N, D] of any float dtype; their length does not matter.
      prompts: [C, T, D] as in `class_embeddings`.

    Returns:
      int32 [N], predicted classes; 0 for an image of zeros.

    Raises:
      UsageError: for shapes that do not fit together, or NaN.
    """
    return _zero_shot("zero_shot", images, prompts)


@checked
def zero_shot_accuracy(
    images: chex.Array, prompts: chex.Array, labels: chex.Array
) -> float:
    """Share of images whose `zero_shot` prediction is right, in [0, 1].

    Args:
      images, prompts: see `zero_shot`.
      labels: int [N], >= 0; only compared with the predictions. One that is no class
        counts as wrong.

    Returns:
      The accuracy, a float.

    Raises:
      UsageError: as `zero_shot`, or for labels that are < 0 or not one for each image.
    """
    name = "zero_shot_accuracy"
    labels = class_labels(name, "labels", labels, len(images))
    return float(np.mean(np.asarray(_zero_shot(name, images, prompts)) == labels))


def _zero_shot(name, images, prompts):
    images, classes = jnp.asarray(images), _checked_embeddings(name, prompts)
    if images.ndim != 2 or not len(images) or images.shape[1] != classes.shape[1]:
        raise UsageError(
            f"{name}: expected images [N, {classes.shape[1]}] and prompts [C, T, "
            f"{classes.shape[1]}], got {images.shape} and {jnp.shape(prompts)}"
        )
    arguments.features(name, images=images)
    return _nearest(images, classes)


def _checked_embeddings(name, prompts):
    prompts = jnp.asarray(prompts)
    if prompts.ndim != 3 or 0 in prompts.shape:
        raise UsageError(
            f"{name}: expected prompts [C, T, D], not empty, got {prompts.shape}"
        )
    arguments.features(name, prompts=prompts.reshape(-1, prompts.shape[2]))
    return _class_embeddings(prompts)


@jax.jit
def _class_embeddings(prompts):
    return unit_rows(jnp.mean(unit_rows(prompts), axis=1))


@jax.jit
def _nearest(images, classes):
    # Full products: on some devices the default rounds, and classes may be close.
    cosines = jnp.matmul(unit_rows(images), classes.T, precision="highest")
    return jnp.argmax(cosines, axis=1).astype(jnp.int32)

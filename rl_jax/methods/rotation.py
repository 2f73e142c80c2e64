"""Rotation: by which quarter turn was the image rotated?"""

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.methods.pretext import Task, pretext
from rl_jax.types import Method, Network


def rotation(encoder: Network, *, all_four: bool = True) -> Method:
    """Predicts rotations of 0, 90, 180, 270° (Gidaris et al. 2018, arXiv:1803.07728).

    mean over images and quarter turns r of −log softmax(Wᵀ f(rot_r x) + b)_r. As in the
    authors' code, a batch of B images becomes one of 4B, each image turned in all four
    ways.

    Args:
      encoder: f, square images [N, H, H, C] to representations h.
      all_four: every image is asked about four times; otherwise once, with a rotation
        drawn for each example, for a quarter of the cost.

    Returns:
      A method with `encode` name `h`, of the image as it stands, and metric `accuracy`
      of the four-way answers (chance ¼).

    Raises:
      UsageError: in use, for images that are not square.
    """
    return pretext(encoder, None, task(all_four))


def task(all_four: bool) -> Task:
    """Which of the four, counter-clockwise; the first question is the upright image."""

    def ask(rngs: chex.Array, image: chex.Array):
        height, width = image.shape[1:3]
        if height != width:
            raise UsageError(
                f"rotation: images must be square, got {height} x {width}; crop or "
                "resize them in the augmentation"
            )
        turned = jnp.stack([jnp.rot90(image, r, axes=(1, 2)) for r in range(4)], axis=1)
        if all_four:
            answer = jnp.tile(jnp.arange(4, dtype=jnp.int32), (len(image), 1))
            return turned[:, :, None], answer
        answer = jax.vmap(lambda rng: jax.random.randint(rng, (1,), 0, 4))(rngs)
        chosen = jax.vmap(lambda t, a: t[a])(turned, answer)
        return chosen[:, :, None], answer

    return Task("rotation", 4, ask, lambda image: image[:, None])

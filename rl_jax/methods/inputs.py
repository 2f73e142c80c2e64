"""What methods take from a batch."""

import chex
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.types import Batch


def take(factory: str, batch: Batch, name: str) -> chex.Array:
    """An entry of the batch that a method cannot do without.

    Raises:
      UsageError: naming what is missing and what there is.
    """
    if name not in batch:
        raise UsageError(
            f"{factory}: the batch must have `{name}`, got {sorted(batch)}; use data, "
            "or an augmentation, that gives it"
        )
    return batch[name]


def image(factory: str, batch: Batch) -> chex.Array:
    """The clean image, [B, ...] of a float dtype.

    Raises:
      UsageError: without one, or for another rank or dtype.
    """
    x = take(factory, batch, "image")
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise UsageError(
            f"{factory}: expected image [B, ...] of a float dtype, got {x.dtype} "
            f"{x.shape}; an augmentation turns bytes into numbers in [0, 1]"
        )
    return x


def one_view(factory: str, batch: Batch) -> chex.Array:
    """The first of the views, or the clean image where the batch has no views.

    Raises:
      UsageError: without either.
    """
    return batch["views"][:, 0] if "views" in batch else take(factory, batch, "image")


def texts(factory: str, batch: Batch) -> chex.Array:
    """The tokens of a batch, one text for each example: [B, L].

    Raises:
      UsageError: where there are none, or several for each example.
    """
    tokens = take(factory, batch, "tokens")
    if tokens.ndim != 2:
        raise UsageError(
            f"{factory}: expected tokens [B, L], one text for each example, got "
            f"{tokens.shape}"
        )
    return tokens

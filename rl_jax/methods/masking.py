"""The patches of images, as an encoder cuts them, and some of them taken out."""

import functools
import math

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.types import Network, Params, State


def cut(
    factory: str,
    encoder: Network,
    params: Params,
    state: State,
    image: chex.Array,
    *,
    cls: bool = False,
) -> tuple[int, networks.Patches]:
    """Side of the encoder's patches, and all patches of the images.

    Args:
      factory: of the method, for its errors.
      encoder: images to a token for each patch.
      params, state: of all networks, by role.
      image: [B, H, W, C].
      cls: whether there is one more token, that of the class.

    Raises:
      UsageError: for an encoder without a token for each square patch.
    """
    run = functools.partial(encoder.apply, train=False)
    tokens, _ = jax.eval_shape(run, params["encoder"], state["encoder"], image)
    patch = _side_of_a_patch(factory, tokens.shape, image.shape, cls)
    rows, columns = image.shape[1] // patch, image.shape[2] // patch
    positions = jnp.broadcast_to(
        networks.patch_positions(rows, columns)[None],
        (image.shape[0], rows * columns, 2),
    )
    return patch, networks.Patches(networks.patchify(image, patch), positions)


def _side_of_a_patch(
    factory: str, tokens: tuple[int, ...], image: tuple[int, ...], cls: bool
) -> int:
    """In pixels, from the shapes of the encoder's output and of the images."""
    wanted = "a class token and one" if cls else "a token"
    shape, pool = ("[B, 1 + L, D]", "all") if cls else ("[B, L, D]", "none")
    if len(tokens) != 3:
        raise UsageError(
            f"{factory}: encoder must give {wanted} for each patch, {shape}, got "
            f'{tokens}; use a vit with pool="{pool}"'
        )
    _, height, width, _ = image
    count = max(tokens[1] - cls, 1)
    patch = math.isqrt(height * width // count)
    if patch * patch * (tokens[1] - cls) != height * width:
        raise UsageError(
            f"{factory}: encoder must give {wanted} for each square patch, got "
            f"{tokens[1]} tokens for {height}×{width} pixels"
            + ('; use a vit with pool="all"' if cls else "")
        )
    return patch


def random_orders(rng: chex.PRNGKey, index: chex.Array, count: int) -> chex.Array:
    """An order of the patches for each example: int32 [B, L]; the first stay in."""

    def one(i):
        return jnp.argsort(jax.random.uniform(jax.random.fold_in(rng, i), (count,)))

    return jax.vmap(one)(index)


def take(x: chex.Array, places: chex.Array) -> chex.Array:
    """[B, L, n] at int32 [B, K] -> [B, K, n]."""
    return jnp.take_along_axis(x, places[..., None], axis=1)

"""The network of joint-embedding methods: encoder f, then projection head g."""

import chex

from rl_jax import networks
from rl_jax.types import Network, Params, State


def init(
    encoder: Network, projector: Network, rng: chex.PRNGKey, x: chex.Array
) -> tuple[Params, State]:
    """Parameters and state of both, keyed `encoder` and `projector`."""
    return networks.chain(encoder=encoder, projector=projector).init(rng, x)


def apply(
    encoder: Network,
    projector: Network,
    params: Params,
    state: State,
    x: chex.Array,
    *,
    train: bool,
) -> tuple[dict[str, chex.Array], State]:
    """`{"h": f(x), "z": g(f(x))}`, each [N, D], and the new state."""
    h, encoder_state = encoder.apply(
        params["encoder"], state["encoder"], x, train=train
    )
    z, projector_state = projector.apply(
        params["projector"], state["projector"], h, train=train
    )
    return {"h": h, "z": z}, {"encoder": encoder_state, "projector": projector_state}


def flatten_views(views: chex.Array) -> chex.Array:
    """[B, V, ...] -> [B·V, ...], the views of one example side by side.

    Interleaved, not one view after the other: a batch shared out over devices then
    stays where it is.
    """
    return views.reshape(-1, *views.shape[2:])


def split_views(x: chex.Array, views: int) -> chex.Array:
    """[B·V, D] -> [B, V, D], the inverse of `flatten_views`."""
    return x.reshape(-1, views, *x.shape[1:])

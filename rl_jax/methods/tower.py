"""The network of joint-embedding methods: encoder f, then projection head g."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.methods import noise
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Batch, Network, Params, State


def init(
    encoder: Network,
    projector: Network,
    rng: chex.PRNGKey,
    x: chex.Array,
    *,
    micro_batch: int | None = None,
) -> tuple[Params, State]:
    """Parameters and state of both, keyed `encoder` and `projector`.

    Raises:
      UsageError: as `micro_batched` does, where it is to be trained so.
    """
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
    return networks.chain(encoder=encoder, projector=projector).init(rng, x)


def apply(
    encoder: Network,
    projector: Network,
    params: Params,
    state: State,
    x: chex.Array,
    *,
    train: bool,
    rng: chex.PRNGKey | None = None,
) -> tuple[dict[str, chex.Array], State]:
    """`{"h": f(x), "z": g(f(x))}`, each [N, D], and the new state.

    `rng` is for the noise of both in training.
    """
    rng_encoder, rng_projector = noise.keys(rng, 2)
    h, encoder_state = encoder.apply(
        params["encoder"], state["encoder"], x, train=train, rng=rng_encoder
    )
    check_vectors("the encoder", h)
    z, projector_state = projector.apply(
        params["projector"], state["projector"], h, train=train, rng=rng_projector
    )
    return {"h": h, "z": z}, {"encoder": encoder_state, "projector": projector_state}


def encode(
    encoder: Network, projector: Network, params: Params, state: State, x: chex.Array
) -> dict[str, chex.Array]:
    """`h` and `z` as `apply` in evaluation mode, beside the layers of the encoder."""
    out, _ = apply(encoder, projector, params, state, x, train=False)
    return out | networks.layers_of(encoder, params["encoder"], state["encoder"], x)


def apply_crops(
    encoder: Network,
    projector: Network,
    params: Params,
    state: State,
    batch: Batch,
    *,
    train: bool,
    rng: chex.PRNGKey | None = None,
    micro_batch: int | None = None,
) -> tuple[dict[str, chex.Array], State]:
    """As `apply`, of all views of a batch: two, and `local_views` where it has them.

    The encoder sees each size by itself, one after the other, where asked for only the
    views of so many examples at a time; the projector sees all as one batch: what
    belongs to an example stays together.

    Returns:
      `{"h", "z"}`, each [B, V, D], the two large views first; and the new state.

    Raises:
      UsageError: for other than two large views, or an encoder made for one size only.
    """
    sizes = [two_views(batch)]
    if "local_views" in batch:
        sizes.append(batch["local_views"])
    *rngs, rng_projector = noise.keys(rng, len(sizes) + 1)
    encoder_state, parts = state["encoder"], []
    for views, rng_encoder in zip(sizes, rngs, strict=True):
        x, seen_by = views.reshape(-1, *views.shape[2:]), encoder
        if micro_batch is not None:
            seen_by = micro_batched(encoder, micro_batch, views=views.shape[1])
        h, encoder_state = seen_by.apply(
            params["encoder"], encoder_state, x, train=train, rng=rng_encoder
        )
        check_vectors("the encoder", h)
        parts.append(split_views(h, views.shape[1]))
    h = jnp.concatenate(parts, axis=1)
    z, projector_state = projector.apply(
        params["projector"],
        state["projector"],
        h.reshape(-1, h.shape[-1]),
        train=train,
        rng=rng_projector,
    )
    out = {"h": h, "z": split_views(z, h.shape[1])}
    return out, {"encoder": encoder_state, "projector": projector_state}


def check_vectors(network: str, h: chex.Array) -> None:
    """Refuses representations that are not one vector for each example.

    Raises:
      UsageError: naming the network and their shape.
    """
    if h.ndim != 2:
        raise UsageError(
            f"{network} must give one vector for each example, [N, D], got {h.shape}; "
            "use a network that pools"
        )


def two_views(batch: Batch) -> chex.Array:
    """The views of a batch, two of each image: [B, 2, ...].

    Raises:
      UsageError: without any or for another number, naming the augmentation's
        argument.
    """
    views = batch.get("views")
    if views is None or views.ndim < 3 or views.shape[1] != 2:
        got = f"a batch of {sorted(batch)}" if views is None else views.shape
        raise UsageError(
            f"expected two views of each image, [B, 2, ...], got {got}; use an "
            "augmentation with num_views=2"
        )
    return views


def flatten_views(views: chex.Array) -> chex.Array:
    """[B, 2, ...] -> [2B, ...], the views of one example side by side.

    Interleaved, not one view after the other: a batch shared out over devices then
    stays where it is.
    """
    return views.reshape(-1, *views.shape[2:])


def interleave(arrays: Sequence[chex.Array]) -> chex.Array:
    """V arrays [B, D] -> [B·V, D], the rows of one example side by side."""
    return jnp.stack(arrays, axis=1).reshape(-1, *arrays[0].shape[1:])


def deal(x: chex.Array, groups: int) -> chex.Array:
    """Deals rows like cards: group j of [B, ...] becomes rows j, j + k, j + 2k, ...

    `deal(x, len(x) // groups)` takes it back. A shared batch stays shared out, group
    after group, over the devices of the context mesh: left to itself, XLA would gather
    it and have every device do all that follows.

    Args:
      x: [B, ...].
      groups: k, contiguous groups of B/k rows in the result.

    Raises:
      UsageError: where k does not divide B.
    """
    rows = len(x)
    if rows % groups:
        raise UsageError(
            f"split={groups} does not divide the batch of {rows}; choose a batch size "
            "or a split so that it does"
        )
    if groups in (1, rows):
        return x
    x = x.reshape(-1, groups, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or rows % mesh.size or set(mesh.axis_types) != {AxisType.Auto}:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(mesh.axis_names))


def split_views(x: chex.Array, views: int) -> chex.Array:
    """[B·V, D] -> [B, V, D], the inverse of `flatten_views`."""
    return x.reshape(-1, views, *x.shape[1:])

"""Sparse autoencoders: many units, few of them on for any one image."""

import functools
import math
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.methods import arguments, inputs, noise
from rl_jax.methods.reconstruction import explained
from rl_jax.types import Aux, Method, Network, State

Penalty = Literal["l1", "kl", "top_k"]


class SparseState(NamedTuple):
    """Carried from step to step.

    Attributes:
      encoder: its batch statistics.
      silent: int32 [m], steps since each unit was last on.
    """

    encoder: State
    silent: chex.Array


def sparse_autoencoder(
    encoder: Network,
    *,
    penalty: Penalty = "l1",
    weight: float = 0.1,
    rho: float = 0.05,
    k: int = 8,
    dead_after: int = 100,
) -> Method:
    """Sparse autoencoder: x ≈ Σ_j z_j d_j + b with few z_j > 0 of many.

    The code is made of the encoder's output a, and the loss is E‖x − x̂‖² and

      l1: λ E‖z‖₁ with z = relu(a) ≥ 0 (Ng 2011, Stanford CS294A; of linear maps:
        Cunningham et al. 2023, arXiv:2309.08600).
      kl: λ Σ_j KL(ρ ‖ r_j), r_j the mean over the batch of z = sigmoid(a) (Ng 2011).
      top_k: nothing, and only the k largest of relu(a) are kept, the others 0
        (Makhzani & Frey 2014, arXiv:1312.5663).

    The decoder is a dictionary, m atoms d_j [D]. With l1 and top_k they have length 1:
    otherwise λ‖z‖₁ would be made small by small codes and long atoms. Sigmoids are
    bounded, with kl the length is free. Unlike a code that `theory.fista` solves for,
    this one costs a forward pass, and is no better than the encoder can make it.

    Args:
      encoder: f, images [B, ...] to a [B, m], a number for each unit; m may be larger
        than D. One linear layer is usual: `networks.mlp(features=(), out=m)`.
      penalty: what makes the code sparse.
      weight: λ ≥ 0, in the units of ‖x‖² for l1: λ = 0 leaves relu and sigmoid codes
        dense. Without effect on top_k.
      rho: ρ in (0, 1), mean activation of each unit; kl only.
      k: units on for an example, in [1, m]; top_k only.
      dead_after: steps without an example that a unit is on for, after which it counts
        as dead.

    Returns:
      A method with `encode` names `h`, the code z, and `reconstruction`. A unit is on
      where a_j > 0 (and is kept). Metrics: `error` E‖x − x̂‖²; `explained`, the share of
      the variance of the batch; `units_on`, the mean over examples of their number;
      `dead_units`, the share of all units.

    Raises:
      UsageError: for values out of range or an unknown penalty; while tracing, for an
        encoder whose output is not [B, m], or k > m.
    """
    name = "sparse_autoencoder"
    if penalty not in ("l1", "kl", "top_k"):
        raise UsageError(
            f"{name}: penalty must be one of l1, kl, top_k, got {penalty!r}"
        )
    arguments.not_negative(name, weight=weight)
    arguments.at_least(name, 1, k=k, dead_after=dead_after)
    if not 0 < rho < 1:
        raise UsageError(f"{name}: rho must be in (0, 1), got {rho}")

    def width(params, state, x):
        run = functools.partial(encoder.apply, train=False)
        a, _ = jax.eval_shape(run, params["encoder"], state, x)
        if a.ndim != 2:
            raise UsageError(
                f"{name}: the encoder must give [B, m], a number for each unit, got "
                f"{a.shape}"
            )
        if penalty == "top_k" and k > a.shape[1]:
            raise UsageError(f"{name}: k={k} is more than the {a.shape[1]} units")
        return a.shape[1]

    def code(a):
        """Activations z, and which units are on."""
        if penalty == "kl":
            return jax.nn.sigmoid(a), a > 0
        z = jax.nn.relu(a) if penalty == "l1" else k_largest(a, k=k)
        return z, z > 0

    def decode(params, z, x):
        atoms = params["atoms"]
        if penalty != "kl":
            atoms = losses.normalize(atoms)
        return (z @ atoms + params["bias"][None]).reshape(x.shape)

    def init(rng, batch):
        x = inputs.image(name, batch)
        rng_encoder, rng_atoms = jax.random.split(rng)
        params = {}
        params["encoder"], encoder_state = encoder.init(rng_encoder, x)
        units, size = width(params, encoder_state, x), math.prod(x.shape[1:])
        atoms = jax.random.normal(rng_atoms, (units, size), jnp.float32)
        params["atoms"] = losses.normalize(atoms)
        params["bias"] = jnp.zeros(size, jnp.float32)
        return params, SparseState(encoder_state, jnp.zeros(units, jnp.int32))

    def loss(params, state, batch, rng):
        (rng_encoder,) = noise.keys(rng, 1)
        x = inputs.image(name, batch)
        a, encoder_state = encoder.apply(
            params["encoder"], state.encoder, x, train=True, rng=rng_encoder
        )
        a = jnp.asarray(a, jnp.float32)
        z, on = code(a)
        out = decode(params, z, x)
        error = losses.squared_distance(x, out)
        value = error
        if penalty == "l1":
            value += weight * losses.l1(z)
        elif penalty == "kl":
            value += weight * losses.kl_sparsity(a, rho=rho, logits=True)
        silent = jnp.where(jnp.any(on, axis=0), 0, state.silent + 1)
        metrics = {
            "error": error,
            "explained": explained(x, out),
            "units_on": jnp.mean(jnp.sum(on, axis=1, dtype=jnp.float32)),
            "dead_units": jnp.mean(silent >= dead_after, dtype=jnp.float32),
        }
        features = jax.lax.stop_gradient({"h": z[:, None]})
        return value, Aux(SparseState(encoder_state, silent), metrics, features)

    def encode(params, state, batch):
        x = inputs.image(name, batch)
        a, _ = encoder.apply(params["encoder"], state.encoder, x, train=False)
        z, _ = code(jnp.asarray(a, jnp.float32))
        out = {"h": z, "reconstruction": decode(params, z, x)}
        return out | networks.layers_of(encoder, params["encoder"], state.encoder, x)

    return Method(init, loss, encode)


def k_largest(a: chex.Array, *, k: int) -> chex.Array:
    """The k largest of each row of [B, m] where they are > 0; 0 elsewhere."""
    values, places = jax.lax.top_k(a, k)
    rows = jnp.arange(a.shape[0])[:, None]
    return jnp.zeros_like(a).at[rows, places].set(jax.nn.relu(values))

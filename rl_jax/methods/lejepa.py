"""LeJEPA: views that predict each other, embeddings that are an isotropic Gaussian."""

import functools

import jax
import jax.numpy as jnp

from rl_jax.losses import sigreg
from rl_jax.methods import arguments, tower
from rl_jax.types import Aux, Method, Network


def lejepa(
    encoder: Network,
    projector: Network,
    *,
    weight: float = 0.05,
    slices: int = 1024,
    knots: int = 17,
    t_max: float = 3.0,
    micro_batch: int | None = None,
) -> Method:
    """LeJEPA (Balestriero & LeCun 2025, arXiv:2511.08544).

    (1 − λ)·mean (z_v − c)² + λ·SIGReg, where z_v = g(f(x_v)) is the embedding of a view
    and c the mean of the two large ones; the first mean is over examples, views and
    dimensions, the second over views, each of which `losses.sigreg` brings to N(0, I).
    No gradient is stopped, nothing moves slowly, and no view is a negative. Libraries
    that have prediction + λ'·SIGReg have 1 + λ' times this with λ = λ'/(1 + λ').

    Views are the two of `views` and, where the augmentation makes them, any number of
    smaller `local_views`; the paper has two and eight.

    Args:
      encoder: f, images to representations h; of any size, where crops are smaller.
      projector: g, h to the embeddings z, raw ones; the authors' has three layers with
        BatchNorm between, 2048, 2048 and 16 to 512 wide. None on z itself, which would
        give it the variances of N(0, I), and leave SIGReg the rest.
      weight: λ in [0, 1]; the paper's 0.01 to 0.1.
      slices: directions drawn anew at each step, M ≥ 1; in these, z is tested.
      knots, t_max: of the integral, see `losses.sigreg`.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`, views of one size after the other; None: all.

    Returns:
      A method with `encode` names `h` and `z`. Metrics: `prediction` and `sigreg`, the
      two terms without their factors; the latter is about 1 where z is Gaussian.

    Raises:
      UsageError: for values out of range, other than two large views, or an encoder
        that does not take the crops.
    """
    arguments.shares("lejepa", weight=weight)
    arguments.at_least("lejepa", 1, slices=slices)
    arguments.at_least("lejepa", 2, knots=knots)
    arguments.positive("lejepa", t_max=t_max)

    forward = functools.partial(
        tower.apply_crops, encoder, projector, micro_batch=micro_batch
    )
    gaussian = functools.partial(sigreg, slices=slices, knots=knots, t_max=t_max)

    def init(rng, batch):
        x = tower.two_views(batch)[:, 0]
        params, state = tower.init(encoder, projector, rng, x, micro_batch=micro_batch)
        # An encoder of one size is told of smaller crops before anything is computed.
        jax.eval_shape(functools.partial(forward, train=False), params, state, batch)
        return params, state

    def loss(params, state, batch, rng):
        out, state = forward(params, state, batch, train=True, rng=rng)
        z = out["z"].astype(jnp.float32)
        centre = jnp.mean(z[:, :2], axis=1, keepdims=True)
        prediction = jnp.mean(jnp.square(z - centre))
        spread = gaussian(rng, z)
        value = (1 - weight) * prediction + weight * spread
        metrics = {"prediction": prediction, "sigreg": spread}
        features = {name: v[:, :2] for name, v in out.items()}
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state, x)

    return Method(init, loss, encode)

"""Batch normalisation whose statistics are global, or those of groups on request."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rl_jax.errors import UsageError


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), channels last.

    y = γ·(x − μ)/√(σ² + ε) + β, with mean μ and variance σ² of a channel over all other
    axes in training, and their running averages in evaluation:
    r ← m·r + (1 − m)·statistic. σ² is the biased variance where it normalises and the
    unbiased one, n/(n − 1)·σ², in the running average, as PyTorch has it.

    Under `jit` the batch is the whole batch, however it is shared out over devices.
    With `split=k` the rows are cut into k contiguous groups of B/k, each normalised by
    its own statistics (rows that lie side by side, such as the views of one image, stay
    together); the running averages take the mean over the groups. On k devices that
    share the batch, these are the statistics of each device.

    Attributes:
      split: k, number of groups; must divide the batch in training.
      momentum: m in [0, 1), the share the running average keeps.
      epsilon: ε > 0.
      affine: learn γ and β; otherwise γ = 1, β = 0.
      scale_init: initialiser of γ.
    """

    split: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    affine: bool = True
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises [B, ..., C]; statistics float32, result of the dtype of x.

        Raises:
          UsageError: in training, where `split` does not divide B, or a group has a
            single value for each channel.
        """
        channels = x.shape[-1:]
        like = (1,) * x.ndim + channels
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        if train:
            grouped = _groups(x, self.split)
            axes = tuple(range(1, grouped.ndim - 1))
            n = grouped.size // (self.split * x.shape[-1])
            mean = jnp.mean(grouped, axes, keepdims=True)
            # Deviations from a mean as if it were fixed, and by how much it moves: this
            # is 0, and its derivatives make all derivatives those of the formula. The
            # backward pass goes over the batch for its sums once, not thrice.
            fixed = jax.lax.stop_gradient(mean)
            centred, moved = grouped - fixed, mean - fixed
            var = jnp.mean(jnp.square(centred), axes, keepdims=True)
            var -= jnp.square(moved)
            for running, new in (
                (running_mean, mean),
                (running_var, var * (n / (n - 1))),
            ):
                new = jnp.mean(new.reshape(-1, *channels), axis=0)
                running.value = (
                    self.momentum * running.value + (1 - self.momentum) * new
                )
        else:
            mean = running_mean.value.reshape(like)
            var = running_var.value.reshape(like)
            centred = jnp.expand_dims(x, 0).astype(jnp.float32) - mean
            moved = jnp.zeros_like(mean)

        gain = jax.lax.rsqrt(var + self.epsilon)
        shift = jnp.zeros_like(gain)
        if self.affine:
            gain *= self.param("scale", self.scale_init, channels).reshape(like)
            shift += self.param("bias", nn.initializers.zeros, channels).reshape(like)
        return (
            (centred * gain + (shift - moved * gain)).reshape(x.shape).astype(x.dtype)
        )


def _groups(x: jax.Array, split: int) -> jax.Array:
    """[B, ..., C] -> [split, B / split, ..., C] in float32."""
    rows = x.shape[0]
    if rows % split:
        raise UsageError(
            f"BatchNorm: split={split} does not divide the batch of {rows}; "
            "choose a batch size or a split so that it does"
        )
    grouped = x.reshape(split, rows // split, *x.shape[1:]).astype(jnp.float32)
    if grouped.size == split * x.shape[-1]:
        raise UsageError(
            f"BatchNorm: {rows} rows in {split} groups leave one value for each "
            "channel, which normalises to 0; use a larger batch or a smaller split"
        )
    return grouped

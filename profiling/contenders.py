"""The losses that are compared: the library's, and dense ones in plain JAX.

Every contender is a function `(a, b) -> loss` of two [B, D] arrays of rows, which it
normalises, so that all do the same work.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rl_jax import losses

Loss = Callable[[jax.Array, jax.Array], jax.Array]

BIAS = -10.0
"""Of SigLIP's logits, where its authors start."""


def value_and_grad(loss: Loss) -> Callable:
    """Jitted `(a, b) -> (value, (gradient by a, gradient by b))`."""
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def nt_xent(temperature: float, **options) -> Loss:
    """The library's NT-Xent, with its options."""
    return lambda a, b: losses.nt_xent(a, b, temperature=temperature, **options)


def clip(temperature: float, **options) -> Loss:
    """The library's CLIP loss, with its options."""
    return lambda a, b: losses.clip(a, b, logit_scale=1.0 / temperature, **options)


def siglip(temperature: float, **options) -> Loss:
    """The library's sigmoid loss, with its options."""
    options = {"logit_scale": 1.0 / temperature, "bias": BIAS} | options
    return lambda a, b: losses.sigmoid(a, b, **options)


def info_nce(temperature: float) -> Loss:
    """The library's InfoNCE with the keys of the batch, one direction."""
    return lambda a, b: losses.info_nce(a, b, temperature=temperature)


def dense_nt_xent(temperature: float, *, dtype=jnp.float32) -> Loss:
    """NT-Xent on the whole matrix: one product, `jax.nn.logsumexp`, autodiff.

    The fastest of the dense forms tried: with a constant shift in place of the maximum,
    or as optax's softmax cross-entropy with labels, XLA takes longer and more memory.
    """

    def loss(a, b):
        a, b = losses.normalize(a), losses.normalize(b)
        z = _interleave(a, b).astype(dtype)
        s = jnp.dot(z, z.T, preferred_element_type=jnp.float32) / temperature
        s = jnp.where(jnp.eye(len(z), dtype=bool), -jnp.inf, s)
        lse = jax.nn.logsumexp(s, axis=1).reshape(-1, 2)
        return jnp.mean(lse - _dot_rows(a, b)[:, None] / temperature)

    return loss


def dense_clip(temperature: float, *, dtype=jnp.float32) -> Loss:
    """CLIP's loss on the whole matrix; one product serves both directions."""

    def loss(a, b):
        a, b = losses.normalize(a), losses.normalize(b)
        x, y = a.astype(dtype), b.astype(dtype)
        s = jnp.dot(x, y.T, preferred_element_type=jnp.float32) / temperature
        rows, columns = (jax.nn.logsumexp(s, axis=k) for k in (1, 0))
        return jnp.mean((rows + columns) / 2 - _dot_rows(a, b) / temperature)

    return loss


def dense_siglip(temperature: float, *, dtype=jnp.float32) -> Loss:
    """SigLIP's loss on the whole matrix."""

    def loss(a, b):
        a, b = losses.normalize(a), losses.normalize(b)
        x, y = a.astype(dtype), b.astype(dtype)
        s = jnp.dot(x, y.T, preferred_element_type=jnp.float32) / temperature + BIAS
        sign = 2.0 * jnp.eye(len(s)) - 1.0
        return -jnp.sum(jax.nn.log_sigmoid(sign * s)) / len(s)

    return loss


def optax_nt_xent(temperature: float) -> Loss:
    """`optax.losses.ntxent`, which forms a [2B, 2B, D] array."""

    def loss(a, b):
        label = jnp.arange(len(a), dtype=jnp.int32)
        labels = jnp.concatenate([label, label])
        return optax.losses.ntxent(jnp.concatenate([a, b]), labels, temperature)

    return loss


def _interleave(a, b):
    return jnp.stack([a, b], axis=1).reshape(-1, a.shape[1])


def _dot_rows(a, b):
    return jnp.sum(a * b, axis=1)

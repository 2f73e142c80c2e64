"""Attention: cuDNN's fused kernel where there is one for it, else XLA's products."""

import functools

import jax
import jax.numpy as jnp

WIDEST = 128
"""Width of a head up to which the kernel's backward pass exists on every card."""


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    mask: jax.Array | None = None,
    causal: bool = False,
) -> jax.Array:
    """softmax(q·kᵀ/√H)·v, all of [B, L, heads, H]; softmax in float32.

    On a CUDA card, of half precision and without a mask, the L × L weights are never
    written to memory: at 196 tokens they are most of a transformer's traffic.

    Args:
      query, key, value: [B, L, heads, H].
      mask: bool, of a shape that broadcasts to [B, heads, L, L]; False: not attended.
      causal: a token sees itself and what comes before it.

    Returns:
      [B, L, heads, H] of their dtype.
    """
    fused = (
        mask is None
        and query.dtype in (jnp.bfloat16, jnp.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= WIDEST
        and _platform() in ("gpu", "cuda")
        and _works(query.shape[1:], str(query.dtype), causal)
    )
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        is_causal=causal,
        implementation="cudnn" if fused else "xla",
    )


def _platform() -> str:
    """Of the devices that what is traced now will run on."""
    device = jax.config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


@functools.cache
def _works(shape: tuple[int, ...], dtype: str, causal: bool) -> bool:
    """Whether cuDNN has the kernel here, forward and backward: asked once a shape."""

    def total(query, key, value):
        return jax.nn.dot_product_attention(
            query, key, value, is_causal=causal, implementation="cudnn"
        ).sum()

    x = jax.ShapeDtypeStruct((1, *shape), dtype)
    try:
        jax.jit(jax.grad(total, (0, 1, 2))).lower(x, x, x).compile()
    except Exception:  # no cuDNN, an old one, an old card: each fails in its own way
        return False
    return True

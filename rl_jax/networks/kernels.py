"""Initial kernels."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn


def scaled_normal(
    scale: float, *, fan: Literal["in", "out"]
) -> nn.initializers.Initializer:
    """Normal kernels of variance scale / fan (He et al. 2015, arXiv:1502.01852).

    The draw is flat: XLA compiles the generator of a four-dimensional array six times
    more slowly on a CPU, once for every shape of kernel, for the same numbers.

    Args:
      scale: 2 before a ReLU, 1 before nothing.
      fan: count the inputs or the outputs of a unit, over the window of a convolution.

    Returns:
      An initialiser `(rng, shape, dtype) -> kernel`, shape [..., inputs, outputs].
    """

    def init(rng, shape, dtype=jnp.float32):
        window = math.prod(shape[:-2])
        units = window * (shape[-2] if fan == "in" else shape[-1])
        draw = jax.random.normal(rng, (math.prod(shape),), dtype).reshape(shape)
        return draw * math.sqrt(scale / units)

    return init

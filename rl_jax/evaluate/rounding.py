"""How much of features is rounding, which has directions of its own."""

import jax.numpy as jnp
import numpy as np

_OPERATIONS = 4
"""Features come out of sums, which round more than once."""


def rounding(x: np.ndarray) -> float:
    """Root mean square of the rounding errors of an entry, generously.

    Args:
      x: of any dtype. What is wider than float32 is taken as float32: networks compute
        in it, whatever their outputs are stored in.
    """
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    own = jnp.finfo(x.dtype).eps if floating else 0.0
    eps = max(float(own), float(jnp.finfo(jnp.float32).eps))
    # In parts: no second copy of the features in float64.
    parts = (x[start : start + 1024] for start in range(0, len(x), 1024))
    squares = sum(float(np.square(part, dtype=np.float64).sum()) for part in parts)
    return _OPERATIONS * eps * float(np.sqrt(squares / x.size))

"""The precision that a network computes in; its parameters are float32 in any."""

from typing import Literal

import jax.numpy as jnp

from rl_jax.errors import UsageError

Dtype = Literal["float32", "bfloat16"]
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def check_dtype(factory: str, dtype: str) -> None:
    """Refuses a precision there is not.

    Raises:
      UsageError: naming the factory and the ones there are.
    """
    if dtype not in DTYPES:
        raise UsageError(
            f"{factory}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}"
        )

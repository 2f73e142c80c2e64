"""Rows of unit length, where cosines are measured and no gradient is taken."""

import functools

import jax

from rl_jax.losses.normalize import normalize

SHORTEST = 1e-36
"""Least squared norm, of rows about 1e-18 long. Training stops at longer ones, whose
gradients would be too large."""

unit_rows = jax.jit(functools.partial(normalize, eps=SHORTEST))
"""`losses.normalize` down to `SHORTEST`: float32 of the shape given."""

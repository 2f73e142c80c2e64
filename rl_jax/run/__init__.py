"""A run in a folder: recipe, training, resume, evaluation, embedding, export."""

from rl_jax.run.encode import encode
from rl_jax.run.trained import Run, load

__all__ = ["Run", "encode", "load"]

"""A run in a folder: recipe, training, resume, evaluation, embedding, export."""

from rl_jax.run.encode import encode

__all__ = ["encode"]

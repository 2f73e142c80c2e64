"""All-pairs reductions that never hold the matrix."""

from rl_jax.pairwise.reduce import block_size_for, logsumexp

__all__ = ["block_size_for", "logsumexp"]

"""All-pairs reductions that never hold the matrix."""

from rl_jax.pairwise.reduce import block_size_for, logsumexp
from rl_jax.pairwise.top_k import top_k

__all__ = ["block_size_for", "logsumexp", "top_k"]

"""All-pairs reductions that never hold the matrix."""

from rl_jax.pairwise.logsumexp import logsumexp
from rl_jax.pairwise.moments import Moments, moments
from rl_jax.pairwise.mosaic_gpu import settle
from rl_jax.pairwise.reduce import Implementation
from rl_jax.pairwise.sigmoid import sigmoid
from rl_jax.pairwise.tiles import Precision, block_size_for
from rl_jax.pairwise.top_k import top_k

__all__ = [
    "Implementation",
    "Moments",
    "Precision",
    "block_size_for",
    "logsumexp",
    "moments",
    "settle",
    "sigmoid",
    "top_k",
]

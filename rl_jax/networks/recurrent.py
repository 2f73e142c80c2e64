"""Networks over the time axis of a sequence."""

import chex
import jax
from flax import linen as nn

from rl_jax.networks.linen import check_sizes, from_linen
from rl_jax.types import Network


class GRU(nn.Module):
    """One layer of gated recurrent units, from the first step to the last."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, T, F] to [B, T, hidden]."""
        del train
        chex.assert_rank(x, 3)
        return nn.RNN(nn.GRUCell(self.hidden))(x)


def gru(*, hidden: int = 64) -> Network:
    """A recurrent network with gates (Cho et al. 2014, arXiv:1406.1078).

    With σ the logistic function and h_0 = 0,
      r = σ(W_r x_t + b_r + U_r h),  u = σ(W_u x_t + b_u + U_u h),
      n = tanh(W_n x_t + b_n + r·(U_n h + c)),  h ← (1 − u)·n + u·h.
    The output of step t depends on the inputs up to t only.

    Args:
      hidden: width of h, which is the output.

    Returns:
      A network [B, T, F] -> [B, T, hidden] float32.

    Raises:
      UsageError: for a size below 1.
    """
    check_sizes("gru", hidden=hidden)
    return from_linen(GRU(hidden=hidden))

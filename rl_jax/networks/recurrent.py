"""Networks over the time axis of a sequence."""

import chex
import jax
from flax import linen as nn

from rl_jax.networks.linen import check_sizes, from_linen
from rl_jax.networks.precision import DTYPES, Dtype, check_dtype
from rl_jax.types import Network


class GRU(nn.Module):
    """One layer of gated recurrent units, from the first step to the last.

    What a step hands on to the next is float32 whatever `dtype` is.
    """

    hidden: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """[B, T, F] to float32 [B, T, hidden]."""
        del train
        chex.assert_rank(x, 3)
        return nn.RNN(nn.GRUCell(self.hidden, dtype=DTYPES[self.dtype]))(x)


def gru(*, hidden: int = 64, dtype: Dtype = "float32") -> Network:
    """A recurrent network with gates (Cho et al. 2014, arXiv:1406.1078).

    With σ the logistic function and h_0 = 0,
      r = σ(W_r x_t + b_r + U_r h),  u = σ(W_u x_t + b_u + U_u h),
      n = tanh(W_n x_t + b_n + r·(U_n h + c)),  h ← (1 − u)·n + u·h.
    The output of step t depends on the inputs up to t only.

    Args:
      hidden: width of h, which is the output.
      dtype: of products and gates; parameters and h are float32.

    Returns:
      A network [B, T, F] -> [B, T, hidden] float32.

    Raises:
      UsageError: for a size below 1, or a dtype there is not.
    """
    check_sizes("gru", hidden=hidden)
    check_dtype("gru", dtype)
    return from_linen(GRU(hidden=hidden, dtype=dtype))

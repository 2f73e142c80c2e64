"""SigLIP: for each image and text of a batch, do they belong together?"""

import math

import jax.numpy as jnp

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.methods import arguments
from rl_jax.methods.image_text import image_text
from rl_jax.pairwise import Precision
from rl_jax.types import Method, Network


def siglip(
    encoder: Network,
    text: Network,
    *,
    dim: int = 64,
    temperature: float = 0.1,
    bias: float = -10.0,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """SigLIP (Zhai et al. 2023, arXiv:2303.15343): a sigmoid for each pair.

    With z = W_i f(x), u = W_t g(t), l_ij = s·cos(z_i, u_j) + b and m_ij = 1 for pairs,
    −1 otherwise: −1/B Σ_ij log σ(m_ij l_ij). log s and b are trained with the rest; b
    starts low, for of B² pairs only B belong together.

    Args:
      encoder: f, images to representations h.
      text: g, tokens [B, L] to one vector each: `networks.text_transformer`.
      dim: width of the embeddings z and u; h W_i and g W_t are linear, without bias.
      temperature: 1/s where training starts.
      bias: b where training starts.
      micro_batch: examples whose activations of a tower are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method for batches and with names as `clip`'s. Metrics: `logit_scale`, s, and
      `logit_bias`, b.

    Raises:
      UsageError: as `clip`.
    """
    arguments.at_least("siglip", 1, dim=dim)
    arguments.positive("siglip", temperature=temperature)
    if not math.isfinite(bias):
        raise UsageError(f"siglip: bias must be finite, got {bias}")

    def criterion(z, u, params):
        scale, offset = jnp.exp(params["log_scale"]), params["bias"]
        value = losses.sigmoid(
            z, u, logit_scale=scale, bias=offset, precision=precision
        )
        return value, {"logit_scale": scale, "logit_bias": offset}

    return image_text(
        "siglip",
        encoder,
        text,
        criterion,
        dim=dim,
        scalars={"log_scale": -math.log(temperature), "bias": bias},
        micro_batch=micro_batch,
    )

"""Networks: factories of `Network(init, apply)`; the only folder that imports flax."""

from typing import TYPE_CHECKING

from rl_jax.networks.convnet import convnet
from rl_jax.networks.decoders import conv_decoder, mlp_decoder
from rl_jax.networks.heads import linear, prediction_head, projection_head, task_head
from rl_jax.networks.layers import in_order, layers_of, mean_of_tokens, tell
from rl_jax.networks.linen import chain, from_linen
from rl_jax.networks.masked import Masked, jepa_predictor, mae_decoder
from rl_jax.networks.mlp import mlp
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.patches import Patches, patch_positions, patchify, unpatchify
from rl_jax.networks.pretrained import pretrained
from rl_jax.networks.recurrent import gru
from rl_jax.networks.resnet import resnet
from rl_jax.networks.settings import settings
from rl_jax.networks.text import text_transformer, token_embedding
from rl_jax.networks.torch_weights import TorchWeights, from_torch, resize_positions
from rl_jax.networks.vit import vit

if TYPE_CHECKING:
    from rl_jax.networks.nnx import from_nnx

__all__ = [
    "BatchNorm",
    "Masked",
    "Patches",
    "TorchWeights",
    "chain",
    "conv_decoder",
    "convnet",
    "from_linen",
    "from_nnx",
    "from_torch",
    "gru",
    "in_order",
    "jepa_predictor",
    "layers_of",
    "linear",
    "mae_decoder",
    "mean_of_tokens",
    "mlp",
    "mlp_decoder",
    "patch_positions",
    "patchify",
    "prediction_head",
    "pretrained",
    "projection_head",
    "resize_positions",
    "resnet",
    "settings",
    "task_head",
    "tell",
    "text_transformer",
    "token_embedding",
    "unpatchify",
    "vit",
]


def __getattr__(name: str):
    """`from_nnx`, on first use: NNX takes as long to import as half of this package."""
    if name != "from_nnx":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rl_jax.networks.nnx import from_nnx

    return from_nnx

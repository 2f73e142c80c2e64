"""Networks: factories of `Network(init, apply)`; the only folder that imports flax."""

from rl_jax.networks.convnet import convnet
from rl_jax.networks.heads import prediction_head, projection_head, task_head
from rl_jax.networks.linen import chain, from_linen
from rl_jax.networks.mlp import mlp
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.recurrent import gru
from rl_jax.networks.resnet import resnet

__all__ = [
    "BatchNorm",
    "chain",
    "convnet",
    "from_linen",
    "gru",
    "mlp",
    "prediction_head",
    "projection_head",
    "resnet",
    "task_head",
]

"""Heads: used in training, discarded afterwards."""

from rl_jax.networks.linen import check_sizes, from_linen
from rl_jax.networks.mlp import MLP, Activation, check_activation
from rl_jax.networks.precision import Dtype, check_dtype
from rl_jax.types import Network


def projection_head(
    *,
    hidden: int = 512,
    out: int = 128,
    layers: int = 2,
    activation: Activation = "relu",
    batch_norm: bool = True,
    final_batch_norm: bool = False,
    split: int = 1,
    dtype: Dtype = "float32",
) -> Network:
    """The projection g from h to the embedding z (Chen et al. 2020, arXiv:2002.05709).

    z = W₂ φ(BN(W₁ h)) + b. MoCo v2 (arXiv:2003.04297) has it without BatchNorm, BYOL
    (arXiv:2006.07733) 4096 wide to 256, SimSiam (arXiv:2011.10566) with three layers of
    2048 and a final BatchNorm.

    Args:
      hidden: width of the hidden layers.
      out: D, width of the embedding.
      layers: linear layers, at least 1; 1 is a linear map.
      activation: φ of the hidden layers.
      batch_norm: normalise before each activation.
      final_batch_norm: normalise z too, without learned scale and bias. It hides a
        collapse: constant embeddings become unit noise.
      split: BatchNorm statistics of that many contiguous groups of the batch.
      dtype: of products and activations, as in `mlp`.

    Returns:
      A network [B, H] -> [B, D] float32.

    Raises:
      UsageError: for sizes below 1, or an activation or dtype there is not.
    """
    check_sizes("projection_head", hidden=hidden, out=out, layers=layers, split=split)
    check_activation("projection_head", activation)
    check_dtype("projection_head", dtype)
    return from_linen(
        MLP(
            features=(hidden,) * (layers - 1),
            out=out,
            activation=activation,
            batch_norm=batch_norm,
            final_batch_norm=final_batch_norm,
            split=split,
            dtype=dtype,
        )
    )


def prediction_head(
    *,
    hidden: int = 512,
    out: int = 128,
    activation: Activation = "relu",
    batch_norm: bool = True,
    split: int = 1,
    dtype: Dtype = "float32",
) -> Network:
    """The predictor q from z to another view's z (Grill et al. 2020, arXiv:2006.07733).

    p = W₂ φ(BN(W₁ z)) + b. BYOL has it wide (4096), SimSiam (Chen & He 2021,
    arXiv:2011.10566) as a bottleneck of a quarter of z.

    Args:
      hidden: width of the hidden layer.
      out: D, the width of z.
      activation: φ of the hidden layer.
      batch_norm: normalise before the activation.
      split: BatchNorm statistics of that many contiguous groups of the batch.
      dtype: of products and activations, as in `mlp`.

    Returns:
      A network [B, D] -> [B, D] float32.

    Raises:
      UsageError: for sizes below 1, or an activation or dtype there is not.
    """
    check_sizes("prediction_head", hidden=hidden, out=out, split=split)
    check_activation("prediction_head", activation)
    check_dtype("prediction_head", dtype)
    return from_linen(
        MLP(
            features=(hidden,),
            out=out,
            activation=activation,
            batch_norm=batch_norm,
            split=split,
            dtype=dtype,
        )
    )


def task_head(
    *,
    hidden: int = 256,
    layers: int = 2,
    activation: Activation = "relu",
    batch_norm: bool = True,
    split: int = 1,
    dtype: Dtype = "float32",
) -> Network:
    """Hidden layers between the features and the classifier of a pretext task.

    x ← φ(BN(W x)) for each layer; the linear classifier that follows belongs to the
    method. Jigsaw (Noroozi & Favaro 2016, arXiv:1603.09246) and context prediction
    (Doersch et al. 2015, arXiv:1505.05192) join the features of several parts here.

    Args:
      hidden: width of each layer.
      layers: number of layers, at least 1.
      activation: φ of each layer.
      batch_norm: normalise before each activation; otherwise the layer has a bias.
      split: BatchNorm statistics of that many contiguous groups of the batch.
      dtype: of products and activations, as in `mlp`.

    Returns:
      A network [B, D] -> [B, hidden] float32.

    Raises:
      UsageError: for sizes below 1, or an activation or dtype there is not.
    """
    check_sizes("task_head", hidden=hidden, layers=layers, split=split)
    check_activation("task_head", activation)
    check_dtype("task_head", dtype)
    return from_linen(
        MLP(
            features=(hidden,) * layers,
            out=None,
            activation=activation,
            batch_norm=batch_norm,
            split=split,
            dtype=dtype,
        )
    )


def linear(*, out: int, dtype: Dtype = "float32") -> Network:
    """A linear layer Wx + b, such as the last one of a classifier.

    Args:
      out: K, number of outputs.
      dtype: of the product, as in `mlp`.

    Returns:
      A network [B, D] -> [B, K] float32.

    Raises:
      UsageError: for `out` below 1, or a dtype there is not.
    """
    check_sizes("linear", out=out)
    check_dtype("linear", dtype)
    return from_linen(MLP(features=(), out=out, dtype=dtype))

"""Supervised training: the baseline, and the way to neural collapse."""

import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.methods import arguments, inputs, mixing, noise
from rl_jax.methods.classifier import cross_entropy
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network


def supervised(
    encoder: Network,
    *,
    num_classes: int,
    feature_penalty: float = 0.0,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    micro_batch: int | None = None,
) -> Method:
    """Cross-entropy of a linear classifier on h = f(x), trained with its encoder.

    E −log softmax(Wᵀh + b)_y + ½λ(E‖h‖² + ‖W‖² + ‖b‖²). With λ > 0, the unconstrained
    features model of Zhu et al. (2021, arXiv:2105.02375), features and classifier go
    to a simplex equiangular tight frame, the neural collapse of Papyan, Han & Donoho
    (2020, arXiv:2008.08186). Plain cross-entropy gets there far more slowly.

    Args:
      encoder: f, images to representations h.
      num_classes: C >= 2; `batch["label"]` in [0, C), −1 where unknown: such examples
        do not enter the loss.
      feature_penalty: λ >= 0.
      label_smoothing: α in [0, 1); the target is (1 − α)·one-hot + α/C.
      mixup: α ≥ 0 of Beta(α, α), the share that an image keeps as it is blended with
        another, and its label with the other's (Zhang et al. 2018, arXiv:1710.09412);
        0: none.
      cutmix: the same of a box of another image put into it (Yun et al. 2019,
        arXiv:1905.04899); with both each is as likely. DeiT and MAE tune with 0.8, 1.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `logits`, and metrics `accuracy` and
      `cross_entropy` of the labelled examples; of mixed ones over both labels, each
      with its share.

    Raises:
      UsageError: for values out of range; in use, for a batch without labels, or other
        than images where they are to be mixed; as `micro_batched` does.
    """
    mixing.check("supervised", mixup=mixup, cutmix=cutmix)
    arguments.at_least("supervised", 2, num_classes=num_classes)
    arguments.not_negative("supervised", feature_penalty=feature_penalty)
    if not 0 <= label_smoothing < 1:
        raise UsageError(
            f"supervised: label_smoothing must be in [0, 1), got {label_smoothing}"
        )
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
    classifier = networks.linear(out=num_classes)
    network = networks.chain(encoder=encoder, classifier=classifier)

    def init(rng, batch):
        inputs.take("supervised", batch, "label")
        return network.init(rng, inputs.one_view("supervised", batch))

    def forward(params, state, x, *, train, rng=None):
        (rng_encoder,) = noise.keys(rng, 1)
        h, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], x, train=train, rng=rng_encoder
        )
        logits, classifier_state = classifier.apply(
            params["classifier"], state["classifier"], h, train=train
        )
        state = {"encoder": encoder_state, "classifier": classifier_state}
        return {"h": h, "logits": logits}, state

    def loss(params, state, batch, rng):
        label = inputs.take("supervised", batch, "label")
        x, mixed = inputs.one_view("supervised", batch), None
        if mixup or cutmix:
            x, share = mixing.mix(
                "supervised", rng, x, batch["index"], mixup=mixup, cutmix=cutmix
            )
            mixed = mixing.partners(label), share
        out, state = forward(params, state, x, train=True, rng=rng)
        ce, accuracy = cross_entropy(
            out["logits"], label, smoothing=label_smoothing, mixed=mixed
        )
        value = ce
        if feature_penalty:
            known = label >= 0
            squares = jnp.sum(jnp.square(out["h"].astype(jnp.float32)), axis=-1)
            mean_square = jnp.sum(squares * known) / jnp.maximum(known.sum(), 1)
            weights = sum(
                jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params["classifier"])
            )
            value = ce + 0.5 * feature_penalty * (mean_square + weights)
        features = {"h": jax.lax.stop_gradient(out["h"][:, None])}
        metrics = {"accuracy": accuracy, "cross_entropy": ce}
        return value, Aux(state, metrics, features)

    def encode(params, state, batch):
        x = batch["image"]
        out, _ = forward(params, state, x, train=False)
        return out | networks.layers_of(encoder, params["encoder"], state["encoder"], x)

    return Method(init, loss, encode, classes=num_classes)

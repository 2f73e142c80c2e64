"""An online linear probe beside any method."""

from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax.errors import UsageError
from rl_jax.types import Method


def with_probe(method: Method, *, num_classes: int) -> Method:
    """Trains a linear classifier on `h` alongside `method`, without touching it.

    The probe reads stop-gradient features, and its cross-entropy enters the loss as
    ce − sg(ce): the value of the loss is the method's own, the gradient of the encoder
    is bit for bit the same, and the classifier learns. Each view counts.

    Parameters are `{"method": ..., "probe": ...}`. Under an optimizer of `train` the
    encoder moves exactly as without a probe: the probe's gradient counts in no norm.
    It is not clipped either, and the probe neither decays nor has LARS's adaptation;
    its rate is the optimizer's. With an optimizer of your own that holds where each
    parameter is taken by itself. What looks at all gradients at once counts the probe,
    unless `optax.masked` leaves it out:
    `optax.masked(optax.clip_by_global_norm(1.0), train.not_probe)`.

    Args:
      method: any method whose features hold `h` [B, V, D].
      num_classes: C ≥ 2; `batch["label"]` in [0, C), −1 where unknown (not counted).

    Returns:
      A method with the same `encode`, and metrics `probe_loss` and `probe_accuracy` of
      the augmented training views.

    Raises:
      UsageError: for fewer than two classes.
    """
    if num_classes < 2:
        raise UsageError(f"with_probe: num_classes must be >= 2, got {num_classes}")

    def init(rng, batch):
        params, state = method.init(rng, batch)
        h = _h(jax.eval_shape(method.encode, params, state, batch), "encode")
        probe = {
            "kernel": jnp.zeros((h.shape[-1], num_classes), jnp.float32),
            "bias": jnp.zeros((num_classes,), jnp.float32),
        }
        return {"method": params, "probe": probe}, state

    def loss(params, state, batch, rng):
        value, aux = method.loss(params["method"], state, batch, rng)
        h = jax.lax.stop_gradient(_h(aux.features, "features")).astype(jnp.float32)
        ce, accuracy = _cross_entropy(params["probe"], h, batch["label"])
        metrics = aux.metrics | {"probe_loss": ce, "probe_accuracy": accuracy}
        value = value + (ce - jax.lax.stop_gradient(ce))
        return value, aux._replace(metrics=metrics)

    def encode(params, state, batch):
        return method.encode(params["method"], state, batch)

    classes = num_classes if method.classes is None else method.classes
    return method._replace(
        init=init, loss=loss, encode=encode, classes=min(num_classes, classes)
    )


def of_method(params: chex.ArrayTree) -> chex.ArrayTree:
    """What belongs to a method in its parameters or their gradient, the probe left out.

    Args:
      params: of a method, alone or beside an online probe.
    """
    return params["method"] if _probed(params) else params


def not_probe(params: chex.ArrayTree) -> chex.ArrayTree:
    """True for all but the online probe, such as `optax.masked` takes.

    Args:
      params: of a method, alone or beside an online probe.
    """
    mine = jax.tree.map(lambda _: True, of_method(params))
    if not _probed(params):
        return mine
    return {"method": mine, "probe": jax.tree.map(lambda _: False, params["probe"])}


def _probed(params: chex.ArrayTree) -> bool:
    return isinstance(params, dict) and params.keys() == {"method", "probe"}


def _h(found: Mapping[str, Any], where: str) -> Any:
    if "h" not in found:
        raise UsageError(
            f"with_probe: the method gives {', '.join(found) or 'nothing'} in {where}, "
            "expected h among them; give it, or leave the probe out"
        )
    return found["h"]


def _cross_entropy(probe, h: chex.Array, label: chex.Array):
    """Mean over the labelled examples and their views of h [B, V, D]."""
    logits = jnp.einsum("bvd,dc->bvc", h, probe["kernel"]) + probe["bias"][None, None]
    label = jnp.broadcast_to(label[:, None], logits.shape[:2])
    known = label >= 0
    count = jnp.maximum(known.sum(), 1)
    ce = optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.where(known, label, 0)
    )
    hit = logits.argmax(-1) == label
    return jnp.sum(ce * known) / count, jnp.sum(hit & known) / count

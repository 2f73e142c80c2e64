"""MLP probe: what a small network reads from frozen features beyond a linear one."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_jax.errors import checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.axes import spread
from rl_jax.evaluate.blocks import device_rows, standardised, sum_over_rows
from rl_jax.evaluate.labels import chosen_labels, common, fold_weights
from rl_jax.evaluate.parts import scoring_part, training_part
from rl_jax.evaluate.probe import FOLDS, ProbeResult

DECAYS = (10.0, 1.0, 0.1)
DECAY_FEW_LABELS = 10.0
"""Used where most classes have less than `FOLDS` labels. On digits with 1 label the
accuracy of 10 is the highest of `DECAYS`, by 0.02 to 0.05."""
_RATE, _BATCH = 3e-3, 128


@checked
def mlp_probe(
    train_x: chex.Array,
    train_y: chex.Array,
    test_x: chex.Array,
    test_y: chex.Array,
    *,
    hidden: int = 256,
    labels_per_class: int | None = None,
    label_fraction: float | None = None,
    draws: int = 5,
    seed: int = 0,
    steps: int = 300,
) -> ProbeResult:
    """Test accuracy of one hidden layer of ReLUs on frozen features.

    AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with a cosine schedule, batches
    of 128. The weight decay of `DECAYS` is the one of least cross-entropy on a held-out
    fifth of the draw, counted over the classes with 5 labels or more, and the network
    that is scored is trained on all of it; where fewer than half have as many,
    `DECAY_FEW_LABELS`. All draws and decays are one compiled
    computation. The test part is only scored.

    Args:
      train_x, train_y: [n, D] features and int [n] labels ≥ 0; features are
        standardised by the training part; what is constant there has no part in it.
      test_x, test_y: [m, D] features and int [m] labels ≥ 0; a class that training does
        not have counts as wrong.
      hidden: units, ≥ 1.
      labels_per_class, label_fraction, draws, seed: see `linear_probe`; the draws of
        labels are the same. The seed also decides the initial weights and the order of
        the examples.
      steps: of AdamW, ≥ 1. The default is 27 epochs of 1,400 examples; for 50,000 take
        some thousand.

    Returns:
      A `ProbeResult`, its `l2` the weight decay chosen in each draw. Constant features
      always give one class.

    Raises:
      UsageError: as `linear_probe`, or hidden or steps below 1.
    """
    name = "mlp_probe"
    x, classes, labels = training_part(name, train_x, train_y)
    test_x, test_y = scoring_part(name, test_x, test_y, x.shape)
    arguments.counts(name, hidden=hidden, steps=steps)
    share = (labels_per_class, label_fraction)
    chosen = chosen_labels(name, labels, *share, draws, seed)
    whole = labels_per_class is None and label_fraction is None  # one draw, not copied
    counted = np.stack([common(labels[i], FOLDS) for i in chosen])
    few = not counted.any()
    decays = np.asarray([DECAY_FEW_LABELS] if few else DECAYS)

    mean, std = x.mean(0, dtype=np.float64), spread(x)
    # What is constant in training teaches its weights nothing: it has no say.
    scale = np.where(std > 0, 1 / np.where(std > 0, std, 1.0), 0.0)
    x, test_x = (standardised(v, mean, scale) for v in (x, test_x))
    # The last of the weights are all ones, the first leave a fold out.
    weights = [fold_weights(labels[i], FOLDS)[[-1] if few else [0, -1]] for i in chosen]
    fitted, held_out = _fit(
        jax.random.split(jax.random.key(seed % 2**32), len(chosen)),
        x[None] if whole else x[chosen],
        labels[chosen].astype(np.int32),
        np.stack(weights),
        counted.astype(np.float32),
        decays.astype(np.float32),
        _batches(chosen.shape[1], steps, seed),
        hidden=hidden,
        classes=len(classes),
    )
    # argmin takes the first of equals: the strongest.
    best = np.asarray(held_out)[:, 0].argmin(1)
    every = np.arange(len(chosen))
    fitted = jax.tree.map(lambda v: np.asarray(v)[every, -1, best], fitted)
    logits = _logits(fitted, jnp.asarray(test_x))
    right = classes[np.asarray(logits).argmax(-1)] == test_y[None]
    accuracies = right.mean(1)
    std = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0
    return ProbeResult(
        accuracies,
        float(accuracies.mean()),
        std,
        decays[best],
        labels_per_class,
        chosen.shape[1],
        label_fraction,
    )


def _batches(n: int, steps: int, seed: int) -> np.ndarray:
    """Int32 [steps, min(n, 128)] rows, every one once before any twice."""
    size = min(n, _BATCH)
    rng, each = np.random.default_rng(seed), n // size
    epochs = [
        rng.permutation(n)[: each * size].reshape(each, size)
        for _ in range(-(-steps // each))
    ]
    return np.concatenate(epochs)[:steps].astype(np.int32)


@functools.partial(jax.jit, static_argnames=("hidden", "classes"))
def _fit(
    rng, x, labels, weights, counted, decays, batches, *, hidden: int, classes: int
):
    """Networks, and losses of the examples of weight zero that are counted.

    From x [R, n, D], labels [R, n], weights [R, P, n], counted [R, n] and decays [L]:
    each leaf [R, P, L, ...] and [R, P, L].
    """
    rate = optax.cosine_decay_schedule(_RATE, len(batches))
    networks = weights.shape[0] * weights.shape[1] * len(decays)
    rows = device_rows(networks * max(hidden, classes))

    def one(rng, x, labels, weights, counted, decay):
        optimizer = optax.adamw(rate, weight_decay=decay, mask=_decayed)

        def step(carry, rows):
            params, state = carry

            def loss(params):
                w = weights[rows]
                losses = w * _cross_entropy(params, x[rows], labels[rows])
                return losses.sum() / jnp.maximum(w.sum(), 1.0)

            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = _init(rng, x.shape[1], hidden, classes)
        carry = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, carry, batches)
        held = (weights == 0) * counted

        def held_out(cut, new):
            return (new * cut(held) * _cross_entropy(params, cut(x), cut(labels))).sum()

        losses = sum_over_rows(held_out, len(x), rows)
        return params, losses / jnp.maximum(held.sum(), 1.0)

    many = jax.vmap(one, (None, None, None, None, None, 0))
    many = jax.vmap(many, (None, None, None, 0, None, None))
    many = jax.vmap(many, (0, 0, 0, 0, 0, None))
    return many(rng, x, labels, weights, counted, decays)


def _init(rng, dim, hidden, classes):
    first, second = jax.random.split(rng)
    return {
        "kernel": jax.random.normal(first, (dim, hidden)) * np.sqrt(2 / dim),
        "bias": jnp.zeros(hidden),
        "out_kernel": jax.random.normal(second, (hidden, classes)) / np.sqrt(hidden),
        "out_bias": jnp.zeros(classes),
    }


def _decayed(params):
    return {name: name.endswith("kernel") for name in params}


def _apply(params, x):
    hidden = jax.nn.relu(x @ params["kernel"] + params["bias"][None])
    return hidden @ params["out_kernel"] + params["out_bias"][None]


_logits = jax.jit(jax.vmap(_apply, (0, None)))


def _cross_entropy(params, x, labels):
    logits = _apply(params, x)
    own = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    return jax.nn.logsumexp(logits, axis=1) - own

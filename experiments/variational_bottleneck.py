"""The variational bottleneck sells accuracy for rate; its price β → 0 is a classifier.

    min E[−log q(y|t)] + β E KL(q(t|x) ‖ r(t)),    t = μ(x) + σ(x)ε

(Alemi, Fischer, Dillon & Murphy 2017), whose β is one over that of §7.1. Both terms
bound information: the rate is at least I(X;T), and H(Y) − E[−log q(y|t)] is at most
I(T;Y) ≤ I(X;T). So on the images the numbers are taken from, every point lies below the
diagonal, whatever the network.

Left: each dot is a β, all from one start; the code is paid for nat by nat until, at the
largest β, nothing of the image is kept. Right: accuracy on held-out digits. The dotted
line is a classifier trained alike without noise and without the rate.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import augment, data, methods, networks

SECTION = "7.3"
TITLE = "The variational bottleneck sells accuracy for rate"

BETAS = (1e-5, 1e-2, 0.1, 0.3, 0.6, 3.0)


def run(*, seeds: int = 2, steps: int = 600) -> outcome.Outcome:
    """Trains the bottleneck on digits at several β, and the plain classifier.

    Args:
      seeds: starts; every β from each of them, on the same batches.
      steps: of Adam on 128 digits.
    """
    source = data.digits()
    view = augment.digits()
    parts = []
    for side in (source, source.held_out):
        images = view.clean(jnp.asarray(side.images))
        index = jnp.arange(len(images))
        label = jnp.asarray(side.labels)
        parts.append({"image": images, "label": label, "index": index})
    train_part, test_part = parts
    classes = len(source.class_names)
    encoder = networks.task_head(hidden=64, layers=2, batch_norm=False)

    def batch(rng):
        index = jax.random.randint(rng, (128,), 0, len(train_part["index"]))
        return jax.tree.map(lambda x: x[index], train_part)

    def measures(method, params, state, rng):
        """Rate and distortion of the training part, accuracy of the other."""
        known = method.loss(params, state, train_part, rng)[1].metrics
        unseen = method.loss(params, state, test_part, rng)[1].metrics
        return known | {"accuracy": unseen["accuracy"]}

    optimizer = training.adam(2e-3, steps=steps)

    def fit(method, rng, data_rng):
        params, state, _, _ = training.pretrain(
            method, batch, rng, steps=steps, optimizer=optimizer, data_rng=data_rng,
            every=steps,
        )  # fmt: skip
        return measures(method, params, state, rng)

    def bottleneck(rng, beta, data_rng):
        method = methods.vib(encoder, num_classes=classes, latent=8, beta=beta)
        return fit(method, rng, data_rng)

    def plain(rng, data_rng):
        return fit(methods.supervised(encoder, num_classes=classes), rng, data_rng)

    rng, data_rng = jax.random.split(jax.random.key(0))
    starts = jax.random.split(rng, seeds)
    over_betas = jax.vmap(bottleneck, in_axes=(None, 0, None))
    over_starts = jax.jit(jax.vmap(over_betas, in_axes=(0, None, None)))
    found = jax.tree.map(np.asarray, over_starts(starts, jnp.array(BETAS), data_rng))
    base = jax.jit(jax.vmap(plain, in_axes=(0, None)))(starts, data_rng)
    base_accuracy = np.asarray(base["accuracy"], np.float64)
    rate, distortion, accuracy = (
        np.asarray(found[name], np.float64)
        for name in ("rate", "distortion", "accuracy")
    )
    share = np.bincount(source.labels) / len(source.labels)
    told = -np.sum(share * np.log(share)) - distortion
    gap = accuracy.mean(0)[0] - base_accuracy.mean()
    return outcome.Outcome(
        checks=(
            outcome.at_most("rate at β over rate at the β before",
                            rate[:, 1:] / rate[:, :-1], 1.0),
            outcome.at_most("H(Y) − distortion − rate", told - rate, 0.01, unit="nat"),
            outcome.at_least("fall of H(Y) − distortion to the next β",
                             -np.diff(told, axis=1), 0.02, unit="nat"),
            outcome.at_least("fall of the accuracy to the next β, mean",
                             -np.diff(accuracy.mean(0)), 0.0),
            outcome.at_most("rate at the largest β", rate[:, -1], 0.05, unit="nat"),
            outcome.at_most("accuracy at the largest β", accuracy[:, -1], 0.2),
            outcome.equal("accuracy at the smallest β − plain classifier's",
                          gap, 0.0, tolerance=0.02),
        ),
        data={
            "rate": rate,
            "told": told,
            "accuracy": accuracy,
            "plain": base_accuracy,
            "entropy": told[0, 0] + distortion[0, 0],
        },
        said=(
            f"From β = {BETAS[0]:g} to {BETAS[-1]:g} the rate falls from "
            f"{rate[:, 0].mean():.1f} to {rate[:, -1].mean():.2f} nat and the accuracy "
            f"from {accuracy[:, 0].mean():.3f} to {accuracy[:, -1].mean():.3f}; the "
            f"plain classifier has {base_accuracy.mean():.3f}."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Information about the label, and accuracy, against the rate."""
    left, right = figure.subplots(1, 2)
    d = found.data
    left.plot([0, d["entropy"]], [0, d["entropy"]], color=figures.FAINT,
              linestyle="--")  # fmt: skip
    left.axhline(d["entropy"], color=figures.FAINT, linestyle=":")
    left.annotate("H(Y)", (18, d["entropy"]), (0, 3), ha="right",
                  textcoords="offset points")  # fmt: skip
    left.annotate("all of\nthe rate", (1.4, 1.4), (-4, 0), ha="right",
                  textcoords="offset points")  # fmt: skip
    right.axhline(d["plain"].mean(), color=figures.FAINT, linestyle=":")
    right.annotate("plain classifier", (0.02, d["plain"].mean()), (0, 3),
                   textcoords="offset points")  # fmt: skip
    for k, (rate, told, accuracy) in enumerate(
        zip(d["rate"], d["told"], d["accuracy"], strict=True)
    ):
        style = {"color": figures.COLOURS[k % 7], "marker": "o"}
        left.plot(rate, told, **style)
        right.plot(np.maximum(rate, 0.02), accuracy, **style)
    for beta, x, y in zip(BETAS, d["rate"][0], d["accuracy"][0], strict=True):
        right.annotate(f"{beta:g}", (max(x, 0.02), y), (4, -12),
                       textcoords="offset points", fontsize=8)  # fmt: skip
    left.set(xlim=(-4.5, 18), xlabel="rate, nat", ylabel="H(Y) − distortion, nat",
             title="told of the label")  # fmt: skip
    right.set(xscale="log", xlabel="rate, nat", ylabel="accuracy", ylim=(0, 1.1),
              title="held-out digits, at each β")  # fmt: skip

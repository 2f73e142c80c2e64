"""More negatives raise the certified information and the accuracy, and soon saturate.

InfoNCE against K candidates certifies at most log K nat (§5.3): with few negatives the
ceiling is what limits it, with many what the views share. Accuracy follows, and
saturates earlier: a few negatives already push apart what differs (Chen et al. 2020,
figure 9; He et al. 2020 decouple K from the batch by a queue).

The same networks see the same views; only the number of negatives that count differs
(`losses.info_nce(…, valid=K − 1)`). Left: log K − loss on held-out digits beside its
ceiling. Right: k-NN accuracy on z, which the loss shapes, and on h before the last
layer, which gains far less and is close to the pixels to begin with.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import augment, data, evaluate, losses, networks

SECTION = "6.3"
TITLE = "The number of negatives"

COUNTS = (2, 4, 16, 64, 256)
PAIRS = 64


def run(*, seeds: int = 2, steps: int = 300, paired: bool = True) -> outcome.Outcome:
    """Trains InfoNCE on digits with 1 to 255 negatives from the same starts.

    Args:
      seeds: starts; every number of negatives from each of them, on the same views.
      steps: of Adam, on 64 pairs.
      paired: whether key i is a view of the image of query i, or of another.
    """
    source = data.digits()
    view = augment.digits(shift=0.5, brightness=0.3)
    encoder = networks.task_head(hidden=64, layers=2, batch_norm=False)
    projector = networks.linear(out=8)
    parts = [jnp.asarray(side.images) for side in (source, source.held_out)]
    rows = PAIRS + COUNTS[-1] - 1

    def embed(params, x):
        h, _ = encoder.apply(params["encoder"], {}, x, train=True)
        return h, projector.apply(params["projector"], {}, h, train=True)[0]

    def batch(rng, images):
        """Views [rows + PAIRS, ...]: of queries, keys, and what is only negative."""
        rng_index, rng_view = jax.random.split(rng)
        index = jax.random.permutation(rng_index, len(images))[:rows]
        views = view.views(rng_view, {"image": images[index], "index": index})["views"]
        keys = views[:PAIRS, 1]
        keys = keys if paired else jnp.roll(keys, 1, axis=0)
        return jnp.concatenate([views[:PAIRS, 0], keys, views[PAIRS:, 0]])

    def loss(params, x, count):
        _, z = embed(params, x)
        query, key, negatives = jnp.split(z, [PAIRS, 2 * PAIRS])
        return losses.info_nce(query, key, negatives, temperature=0.2, valid=count - 1)

    def train(rng, count, data_rng):
        rng_encoder, rng_projector = jax.random.split(rng)
        params = {
            "encoder": encoder.init(rng_encoder, view.clean(parts[0][:1]))[0],
            "projector": projector.init(rng_projector, jnp.zeros((1, 64)))[0],
        }
        params, _ = training.minimise(
            lambda params, rng: loss(params, batch(rng, parts[0]), count),
            params, data_rng, steps=steps,
            optimizer=training.adam(2e-3, steps=steps), every=steps,
        )  # fmt: skip
        tests = jax.random.split(jax.random.key(1), 16)
        unseen = jax.lax.map(
            lambda rng: loss(params, batch(rng, parts[1]), count), tests
        )
        return jnp.log(count) - unseen.mean(), [
            embed(params, view.clean(images)) for images in parts
        ]

    rng, data_rng = jax.random.split(jax.random.key(0))
    over_counts = jax.vmap(train, in_axes=(None, 0, None))
    over_starts = jax.jit(jax.vmap(over_counts, in_axes=(0, None, None)))
    counts = np.array(COUNTS)
    found = over_starts(jax.random.split(rng, seeds), jnp.array(counts), data_rng)
    bound, features = jax.tree.map(np.asarray, found)
    labels = source.labels, source.held_out.labels

    def score(train_x, test_x):
        return evaluate.knn_accuracy(train_x, labels[0], test_x, labels[1])

    accuracy_h, accuracy_z = (
        np.array([
            [score(a, b) for a, b in zip(start_a, start_b, strict=True)]
            for start_a, start_b in zip(features[0][i], features[1][i], strict=True)
        ])
        for i in range(2)
    )  # fmt: skip
    pixels = score(*(evaluate.raw_pixels(s.images) for s in (source, source.held_out)))
    mean, seen = bound.mean(0), accuracy_z.mean(0)
    return outcome.Outcome(
        checks=(
            outcome.at_most("bound − log K", bound - np.log(counts)[None], 0.0,
                            unit="nat"),
            outcome.at_least("rise of the bound from K to the next", np.diff(mean),
                             0.05, unit="nat"),
            outcome.at_least("bound at the largest K", bound[:, -1], 1.5, unit="nat"),
            outcome.at_most("last rise of the bound − half of the first",
                            np.diff(mean)[-1] - 0.5 * np.diff(mean)[0], 0.0,
                            unit="nat"),
            outcome.at_least("rise of the accuracy on z from K to the next",
                             np.diff(seen), -0.01),
            outcome.at_least("accuracy on z, K = 256 − K = 2", seen[-1] - seen[0],
                             0.03),
            outcome.at_most("accuracy on z, K = 256 − K = 16", seen[-1] - seen[2],
                            0.02),
        ),
        data={
            "count": counts,
            "bound": bound,
            "h": accuracy_h,
            "z": accuracy_z,
            "pixels": pixels,
        },
        said=(
            f"From {counts[0]} to {counts[-1]} candidates the bound rises from "
            f"{mean[0]:.2f} to {mean[-1]:.2f} nat, its last quadrupling adding "
            f"{mean[-1] - mean[-2]:.2f}; k-NN accuracy on z from {seen[0]:.3f} to "
            f"{seen[-1]:.3f}, with {seen[2]:.3f} at 16 already."
        ),
        correction=(
            "The gain is one of z. On h, which is what is kept, accuracy rises by "
            f"{accuracy_h.mean(0)[-1] - accuracy_h.mean(0)[0]:.3f} only, and the "
            f"pixels themselves have {pixels:.3f} on these digits."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Bound and accuracies against the number of candidates."""
    left, right = figure.subplots(1, 2)
    d = found.data
    left.plot(d["count"], np.log(d["count"]), color=figures.FAINT, linestyle="--")
    left.annotate("log K", (16, np.log(16)), (-6, 4), ha="right",
                  textcoords="offset points")  # fmt: skip
    for values in d["bound"]:
        left.plot(d["count"], values, "o-", color=figures.COLOURS[0])
    left.set(ylabel="nat", title="information certified, held-out")
    for k, name in enumerate("zh"):
        for i, values in enumerate(d[name]):
            right.plot(d["count"], values, "o-", color=figures.COLOURS[k],
                       label=None if i else f"on {name}")  # fmt: skip
    right.axhline(d["pixels"], color=figures.FAINT, linestyle=":", label="pixels")
    right.set(ylabel="accuracy", title="k-NN accuracy, held-out")
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="candidates K (negatives: K − 1)")
        axes.set_xticks(d["count"], d["count"])
        axes.minorticks_off()

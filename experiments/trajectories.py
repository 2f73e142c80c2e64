"""Five methods move to one region of alignment and uniformity; a collapse does not.

Alignment E‖u − v‖² of positives, and uniformity log E e^{−2‖u − v‖²} of all pairs, both
of unit vectors and both better when lower (Wang & Isola 2020). SimCLR and MoCo lower
the two by their loss; BYOL and SimSiam lower only alignment and keep apart by predictor
and target; a supervised network keeps classes apart, not images. All trade alignment
for uniformity and end in one region, short of the least of both. Without its
stop-gradient SimSiam ends with by far the best alignment of all and the worst
uniformity, near 0 both, as for embeddings that are all one point.

In the figure a line is a run from its start (open circle) to its last record (dot),
measured on two views of held-out digits; the dotted line is the uniformity of the
uniform distribution. Alignment alone would rank the collapsed runs first.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import augment, data, evaluate, losses, methods, networks, theory
from rl_jax.types import Aux, Method

SECTION = "12.2"
TITLE = "Where methods go in alignment and uniformity"

HEALTHY = ("SimCLR", "MoCo", "BYOL", "SimSiam", "supervised")
COLLAPSED = "SimSiam without stop-gradient"
NAMES = (*HEALTHY, COLLAPSED)
WIDTH = 16
RECORDS = 15


def run(
    *, seeds: int = 2, steps: int = 240, stop_gradient: bool = True
) -> outcome.Outcome:
    """Trains all methods on the same views of digits.

    Args:
      seeds: starts, trained together.
      steps: of Adam on 128 digits, rounded to a multiple of 15.
      stop_gradient: of SimSiam; the last run never has one.
    """
    every = max(steps // RECORDS, 1)
    steps = every * RECORDS
    source = data.digits()
    images, labels = jnp.asarray(source.images), jnp.asarray(source.labels)
    unseen = jnp.asarray(source.held_out.images)
    view = augment.digits(shift=0.5, brightness=0.3)
    measured = {"image": unseen, "index": jnp.arange(len(unseen))}
    pairs = jax.jit(view.views)(jax.random.key(5), measured)["views"]
    pairs = pairs.reshape(-1, *pairs.shape[2:])
    clean = view.clean(jnp.concatenate([images, unseen]))
    all_methods = _methods(steps, stop_gradient)
    method = _side_by_side({name: all_methods[name] for name in NAMES})

    def batch(rng):
        rng_index, rng_view = jax.random.split(rng)
        index = jax.random.randint(rng_index, (128,), 0, len(images))
        drawn = {"image": images[index], "label": labels[index], "index": index}
        return view.views(rng_view, drawn)

    def embed(params, state, x):
        """[methods, n, D]."""
        out = method.encode(params, state, {"image": x})
        return jnp.stack([out[name].get("z", out[name]["h"]) for name in NAMES])

    def look(params, state):
        z = embed(params, state, pairs)
        first, second = z[:, ::2], z[:, 1::2]
        aligned = jax.vmap(losses.alignment)(first, second)
        spread = jax.vmap(losses.uniformity)(first)
        return jnp.stack([aligned, spread], -1), embed(params, state, clean)[-1]

    def train(rng, data_rng):
        params, state, _, path = training.pretrain(
            method, batch, rng, steps=steps, data_rng=data_rng,
            optimizer=training.adam(2e-3, steps=steps), record=look, every=every,
        )  # fmt: skip
        path, embedded = path
        return path, embed(params, state, clean), embedded[:1]

    rng, data_rng = jax.random.split(jax.random.key(0))
    starts = jax.random.split(rng, seeds)
    found = jax.jit(jax.vmap(train, in_axes=(0, None)))(starts, data_rng)
    path, features, untrained = jax.tree.map(np.asarray, found)
    path = {name: path[:, :, k] for k, name in enumerate(NAMES)}
    n = len(images)

    def knn(embedded):
        return np.mean([
            evaluate.knn_accuracy(z[:n], source.labels, z[n:], source.held_out.labels)
            for z in embedded
        ])  # fmt: skip

    accuracy = {name: knn(features[:, k]) for k, name in enumerate(NAMES)}
    before = knn(untrained[:, 0])
    ends = {name: np.asarray(v[:, -1], np.float64) for name, v in path.items()}
    healthy = np.concatenate([ends[name] for name in HEALTHY])
    first = np.concatenate([np.float64(path[name][:, 0]) for name in HEALTHY])
    lost = ends[COLLAPSED]
    diameter, wide = (_distances(v, v).max() for v in (healthy, first))
    apart = _distances(healthy, lost).min()
    uniform = float(theory.uniformity_limit(dim=WIDTH))
    short = _distances(healthy, np.array([[0.0, uniform]]))
    return outcome.Outcome(
        checks=(
            outcome.at_most("alignment of the five", healthy[:, 0], 0.5),
            outcome.at_most("uniformity of the five", healthy[:, 1], -1.6),
            outcome.at_most("alignment of the collapsed", lost[:, 0], 0.1),
            outcome.at_least("uniformity of the collapsed", lost[:, 1], -0.4),
            outcome.at_most("diameter of the five, end / start", diameter / wide, 0.85),
            outcome.at_most(
                "diameter of the five − 0.6 × distance to the collapsed",
                diameter - 0.6 * apart,
                0.0,
            ),
        ),
        data={"path": path, "uniform": uniform, "accuracy": accuracy},
        said=(
            f"The five end with alignment {healthy[:, 0].min():.2f} to "
            f"{healthy[:, 0].max():.2f} and uniformity {healthy[:, 1].min():.2f} to "
            f"{healthy[:, 1].max():.2f}, at most {diameter:.2f} apart, "
            f"{wide:.2f} at the start, and {apart:.2f} or more from "
            f"the collapsed runs (alignment {lost[:, 0].max():.3f}, "
            f"uniformity {lost[:, 1].min():.2f}). k-NN accuracy on the embedding: "
            f"{min(accuracy[name] for name in HEALTHY):.3f} or more against "
            f"{accuracy[COLLAPSED]:.3f}, which had {before:.3f} untrained."
        ),
        correction=(
            "The region is not near the joint minimizer: the least of both is "
            f"alignment 0 with uniformity {uniform:.2f}, and the ends are "
            f"{short.min():.2f} to {short.max():.2f} away from there. The "
            "constant solution is not low in uniformity and high in alignment, it "
            f"is the reverse: alignment {lost[:, 0].mean():.3f}, the best of all, and "
            f"uniformity {lost[:, 1].mean():.2f} of at most 0, the worst. And BYOL is "
            "not among the methods that Wang & Isola compared: it (arXiv:2006.07733) "
            "came a month after them (arXiv:2005.10242)."
        ),
    )


def _methods(steps: int, stop_gradient: bool) -> dict[str, Method]:
    """All with the same encoder, embedding and predictor."""
    encoder = networks.task_head(hidden=64, layers=2)
    projector = networks.projection_head(layers=1, out=WIDTH)
    predictor = networks.prediction_head(hidden=2 * WIDTH, out=WIDTH)
    parts = encoder, projector
    siamese = *parts, predictor
    return {
        "SimCLR": methods.simclr(*parts, temperature=0.5),
        "MoCo": methods.moco(
            *parts, temperature=0.5, decay=0.95, queue_size=1024, symmetric=True
        ),
        "BYOL": methods.byol(*siamese, total_steps=steps, decay=0.95),
        "SimSiam": methods.simsiam(*siamese, stop_gradient=stop_gradient),
        "supervised": methods.supervised(
            networks.chain(encoder=encoder, projector=projector), num_classes=10
        ),
        COLLAPSED: methods.simsiam(*siamese, stop_gradient=False),
    }


def _side_by_side(parts: dict[str, Method]) -> Method:
    """Independent methods as one: the views are drawn, and compiled, once for all.

    The loss is the sum, which leaves each its own gradient, and Adam is entry by entry.
    """

    def init(rng, batch):
        both = {name: method.init(rng, batch) for name, method in parts.items()}
        params, state = ({name: b[k] for name, b in both.items()} for k in range(2))
        return params, state

    def loss(params, state, batch, rng):
        out = {
            name: method.loss(params[name], state[name], batch, rng)
            for name, method in parts.items()
        }
        total = sum(value for value, _ in out.values())
        return total, Aux({name: aux.state for name, (_, aux) in out.items()}, {}, {})

    def encode(params, state, batch):
        return {
            name: method.encode(params[name], state[name], batch)
            for name, method in parts.items()
        }

    return Method(init, loss, encode)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None] - b[None], axis=-1)


def draw(figure, found: outcome.Outcome) -> None:
    """Each run from its start to its end, and the accuracy of the embeddings."""
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    d = found.data
    for k, name in enumerate(NAMES):
        colour = figures.COLOURS[k]
        for path in d["path"][name]:
            left.plot(*path.T, color=colour, linewidth=1.2)
            left.plot(*path[0], "o", color=colour, fillstyle="none")
            left.plot(*path[-1], "o", color=colour)
        right.barh(k, d["accuracy"][name], color=colour, alpha=0.8, height=0.6)
        right.annotate(f"{d['accuracy'][name]:.2f}", (d["accuracy"][name], k), (3, -4),
                       textcoords="offset points")  # fmt: skip
    left.axhline(d["uniform"], color=figures.FAINT, linestyle=":")
    left.set(xlabel="alignment (0: views agree)", ylabel="uniformity (low: spread)",
             title="start ○ to end ●", xlim=(-0.03, None))  # fmt: skip
    right.set_yticks(range(len(NAMES)), [*HEALTHY, "SimSiam, no\nstop-gradient"])
    right.invert_yaxis()
    right.set(xlim=(0, 1.18), xlabel="k-NN accuracy", title="the embedding")
    right.grid(axis="y", visible=False)

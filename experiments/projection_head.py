"""A projection head lets the representation keep what the augmentation destroys.

SimCLR compares z = g(h), h = f(x). Views that share the object and redraw its colour
force z to be blind to colour, while h, which the loss sees only through g, need not be
(Chen et al. 2020; Bordes, Balestriero & Bottou 2023). Read by a linear probe: colour
(R² of RGB) from h and not from z, the class of the object from both.

The untrained encoder beside it matters: its h has all of the colour already. So h
*keeps* colour, it does not learn it, and it loses some with every step; without a head
the loss acts on h itself and takes it away.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import evaluate, methods, networks

SECTION = "6.2"
TITLE = "The projection head loses colour, the representation keeps it"

PIXELS, CLASSES, TEST = 64, 5, 500
READ = ("untrained h", "h", "z")


def run(
    *,
    seeds: int = 3,
    steps: int = 300,
    batch: int = 128,
    head: bool = True,
    redraw: bool = True,
) -> outcome.Outcome:
    """Trains SimCLR on coloured templates and probes h and z.

    Args:
      seeds: starts, trained together on the same data.
      steps: of Adam.
      batch: images of a step.
      head: whether there is a projection head; without it z is h.
      redraw: whether the second view has another colour.
    """
    encoder = networks.task_head(hidden=128, layers=2, batch_norm=False)
    projector = training.UNCHANGED
    if head:
        projector = networks.projection_head(hidden=128, out=32, batch_norm=False)
    method = methods.simclr(encoder, projector, temperature=0.2)
    templates = jnp.asarray(
        np.random.default_rng(0).normal(size=(CLASSES, PIXELS)), jnp.float32
    )

    def image(shape, colour, rng):
        x = shape[:, :, None] * colour[:, None, :]
        return x + 0.05 * jax.random.normal(rng, x.shape)

    def draw(rng, count):
        rngs = jax.random.split(rng, 6)
        label = jax.random.randint(rngs[0], (count,), 0, CLASSES)
        style = jax.random.normal(rngs[1], (count, PIXELS))
        shape = jax.nn.sigmoid(0.75 * templates[label] + 0.5 * style)
        colour = jax.random.uniform(rngs[2], (2, count, 3), minval=0.2)
        first, second = colour[0], colour[1 if redraw else 0]
        views = [image(shape, first, rngs[3]), image(shape, second, rngs[4])]
        return {"views": jnp.stack(views, 1), "image": views[0]}, label, first

    def train(rng, data_rng):
        measured = {"image": draw(jax.random.key(1), 2 * TEST)[0]["image"]}
        params, state, _, records = training.pretrain(
            method,
            lambda key: draw(key, batch)[0],
            rng,
            steps=steps,
            optimizer=training.adam(1e-3, steps=steps),
            data_rng=data_rng,
            record=lambda params, state: method.encode(params, state, measured)["h"],
            every=steps,
        )
        out = method.encode(params, state, measured)
        return {"untrained h": records[0], "h": out["h"], "z": out["z"]}

    rng, data_rng = jax.random.split(jax.random.key(0))
    run_all = jax.jit(jax.vmap(train, in_axes=(0, None)))
    found = jax.tree.map(np.asarray, run_all(jax.random.split(rng, seeds), data_rng))
    _, label, colour = jax.jit(draw, static_argnums=1)(jax.random.key(1), 2 * TEST)
    label, colour = np.asarray(label), np.asarray(colour)
    part = slice(TEST), slice(TEST, None)
    r2, accuracy = {}, {}
    for name in READ:
        sides = [[x[p] for p in part] for x in found[name]]
        r2[name] = np.array([
            evaluate.ridge_r2(x, colour[part[0]], test, colour[part[1]]).mean
            for x, test in sides
        ])  # fmt: skip
        accuracy[name] = np.array([
            evaluate.linear_probe(
                x, label[part[0]], test, label[part[1]], labels_per_class=4, draws=5
            ).mean
            for x, test in sides
        ])  # fmt: skip
    return outcome.Outcome(
        checks=(
            outcome.at_least("R² of colour from h", r2["h"], 0.5),
            outcome.at_most("R² of colour from z", r2["z"], 0.05),
            outcome.at_least("accuracy of the class from h", accuracy["h"], 0.95),
            outcome.at_least("accuracy of the class from z", accuracy["z"], 0.95),
        ),
        data={"r2": r2, "accuracy": accuracy},
        said=(
            f"Colour is read from h with R² {r2['h'].mean():.2f}, from z with "
            f"{r2['z'].mean():.2f} (means of {seeds}); the class, of four "
            f"labels each, from h with accuracy "
            f"{accuracy['h'].mean():.3f}, from z with {accuracy['z'].mean():.3f}."
        ),
        correction=(
            "The head does not make h learn what the augmentation varies: the "
            f"untrained h has colour with R² {r2['untrained h'].mean():.2f} already, "
            f"after training {r2['h'].mean():.2f} is left."
        ),
    )


def draw(figure, found: outcome.Outcome) -> None:
    """R² of colour and accuracy of the class, for the untrained h, h and z."""
    left, right = figure.subplots(1, 2)
    for axes, values, title in (
        (left, found.data["r2"], "colour, R² of a linear readout"),
        (right, found.data["accuracy"], "class, accuracy (dotted: chance)"),
    ):
        for k, name in enumerate(READ):
            colour = figures.FAINT if k == 0 else figures.COLOURS[k - 1]
            mean = values[name].mean()
            axes.bar(k, mean, color=colour, alpha=0.75, width=0.6)
            axes.plot([k] * len(values[name]), values[name], "o", color=colour)
            axes.annotate(f"{mean:.2f}", (k, max(mean, 0)), (0, 5), ha="center",
                          textcoords="offset points")  # fmt: skip
        axes.set_xticks(range(len(READ)), READ)
        axes.set(ylim=(-0.05, 1.15), title=title)
        axes.grid(axis="x", visible=False)
    right.axhline(1 / CLASSES, color=figures.FAINT, linestyle=":")

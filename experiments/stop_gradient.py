"""Without the stop-gradient a siamese network collapses to a point.

SimSiam (Chen & He 2021) pulls the prediction p = q(z) of one view to the other view's
z and has no negatives: −½ cos(p_a, sg z_b) − ½ cos(p_b, sg z_a). All embeddings equal
would be its best value, −1. The collapse meter is √D · std of z/‖z‖: 0 for a point, 1
for the uniform distribution on the sphere.

The place of BatchNorm decides what is seen. Here it is in the hidden layers and in the
predictor, not on z. Two variants to try: on z itself (`normalise_z`), where it fixes
the variance that the meter reads, so that only the rank can fall; and no predictor
(`predictor=False`), where the stop-gradient alone does not help.

In the figure each line is a start: the loss without stop-gradient runs to −1, which
looks like success, while the spread of the embeddings goes to 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import augment, data, evaluate, methods, networks

SECTION = "6.4"
TITLE = "The stop-gradient keeps SimSiam from collapsing"

EVERY = 10


def run(
    *,
    seeds: int = 2,
    steps: int = 200,
    predictor: bool = True,
    normalise_z: bool = False,
) -> outcome.Outcome:
    """Trains SimSiam on digits with and without stop-gradient from the same starts.

    Args:
      seeds: starts, trained together on the same views.
      steps: of SGD with momentum; a multiple of 10.
      predictor: whether there is a q; without it p is z.
      normalise_z: whether z goes through BatchNorm.
    """
    source = data.digits()
    images = jnp.asarray(source.images)
    test = {"image": jnp.asarray(source.held_out.images)}
    view = augment.digits(
        rotate=0, shear=0, scale=(1, 1), brightness=0.3, noise=0.15, dropout=0.2
    )
    test["image"] = view.clean(test["image"])
    width = 64
    parts = (
        networks.task_head(hidden=128, layers=2),
        networks.projection_head(layers=1, out=width, final_batch_norm=normalise_z),
        networks.prediction_head(hidden=width // 2, out=width),
    )
    if not predictor:
        parts = (*parts[:2], training.UNCHANGED)

    def batch(rng):
        rng_index, rng_view = jax.random.split(rng)
        index = jax.random.randint(rng_index, (128,), 0, len(images))
        return view.views(rng_view, {"image": images[index], "index": index})

    optimizer = optax.chain(
        optax.add_decayed_weights(1e-4),
        optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9),
    )

    def train(rng, data_rng, stop):
        method = methods.simsiam(*parts, stop_gradient=stop)

        def embed(params, state):
            return method.encode(params, state, test)["z"]

        params, state, loss, spread = training.pretrain(
            method, batch, rng, steps=steps, optimizer=optimizer, data_rng=data_rng,
            record=lambda *now: evaluate.normalized_std(embed(*now)), every=EVERY,
        )  # fmt: skip
        return loss, spread, embed(params, state)

    def both(rng, data_rng):
        return [train(rng, data_rng, stop) for stop in (True, False)]

    rng, data_rng = jax.random.split(jax.random.key(0))
    starts = jax.random.split(rng, seeds)
    found = jax.jit(jax.vmap(both, in_axes=(0, None)))(starts, data_rng)
    loss, spread, z = (
        np.stack([np.asarray(f[i], np.float64) for f in found]) for i in range(3)
    )
    end = np.array([[evaluate.normalized_std(v) for v in some] for some in z])
    rank = [
        np.mean([evaluate.rank_me(v - v.mean(0, keepdims=True)) for v in some])
        for some in z
    ]
    return outcome.Outcome(
        checks=(
            outcome.at_least("√D · std of z with stop-gradient", end[0], 0.6),
            outcome.at_most("√D · std of z without", end[1], 0.2),
            outcome.at_most("loss without, at the end", loss[1, :, -1], -0.95),
        ),
        data={
            "step": EVERY * np.arange(loss.shape[-1]),
            "loss": loss,
            "spread": spread,
        },
        said=(
            f"After {steps} steps √D · std of z is {end[0].min():.2f} or more with the "
            f"stop-gradient and {end[1].max():.2f} or less without, where the loss is "
            f"{loss[1, :, -1].mean():.3f}. The rank of the centred z, which knows no "
            f"scale, is {rank[0]:.0f} with and {rank[1]:.0f} without."
        ),
    )


def draw(figure, found: outcome.Outcome) -> None:
    """Loss and spread of the embeddings against the step."""
    left, right = figure.subplots(1, 2)
    d = found.data
    for k, name in enumerate(("with stop-gradient", "without")):
        for axes, curves in ((left, d["loss"][k]), (right, d["spread"][k])):
            for i, curve in enumerate(curves):
                axes.plot(d["step"], curve, color=figures.COLOURS[k],
                          label=None if i else name)  # fmt: skip
    left.set(xlabel="step", ylabel="loss", title="negative cosine (best: −1)")
    left.axhline(-1, color=figures.FAINT, linestyle=":")
    left.legend()
    right.set(xlabel="step", ylabel="√D · std", ylim=(0, 1.05),
              title="spread of z/‖z‖ (0: one point)")  # fmt: skip
    for level in (0.2, 0.6):
        right.axhline(level, color=figures.FAINT, linestyle=":")

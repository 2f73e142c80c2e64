"""Contrastive learning inverts the generator: content is recovered, style is not.

x = g(c, s), content c uniform on the sphere, style s normal. The second view has the
content of the first, but for some noise, and style of its own. Then the minimiser of
InfoNCE is f(g(c, s)) = Rc with R orthogonal (Zimmermann et al. 2021, arXiv:2102.08850,
theorem 2): a linear readout of z has R² near 1 for c and 0 for s (von Kügelgen et al.
2021, arXiv:2106.04619), though x holds both. Where style is shared by the views it is
content.

In the figure on the left R² against the slope of the generator's leaky ReLUs: the
smaller, the nearer it comes to losing what is negative, and the less of the content is
found in the same number of steps. On the right one coordinate of content and of z, as
it is and with R undone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import evaluate, losses, networks
from rl_jax.data.mixing import random_maps

SECTION = "10.3"
TITLE = "Contrastive learning finds content, not style"
_CONTENT, _STYLE, _OBSERVED, _HELD = 3, 3, 10, 1000


def run(
    *,
    seeds: int = 3,
    slopes: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05),
    mild: float = 0.2,
    steps: int = 800,
    batch_size: int = 128,
    width: int = 64,
    temperature: float = 0.7,
    shared_style: bool = False,
) -> outcome.Outcome:
    """Trains an encoder for each generator with InfoNCE on fresh pairs.

    Args:
      seeds: generators of each slope.
      slopes: of the generators' leaky ReLUs, in (0, 1].
      mild: of these, where content must be found.
      steps: of Adam.
      batch_size: pairs in a step.
      width: of the encoder's hidden layers.
      temperature: of InfoNCE; with 0.1 a third of the runs folds the sphere, a local
        optimum in which one direction of content is lost.
      shared_style: whether both views have the style of the first.
    """
    maps = [
        random_maps(seed, (_CONTENT + _STYLE, *3 * (_OBSERVED,)), gain=1.5)
        for seed in range(seeds)
    ]
    maps = [jnp.asarray(np.stack(m), jnp.float32) for m in zip(*maps, strict=True)]
    encoder = networks.mlp(features=(width, width), out=_CONTENT, batch_norm=False)

    def latents(rng, count):
        content, style = jnp.split(
            jax.random.normal(rng, (count, _CONTENT + _STYLE)), [_CONTENT], axis=1
        )
        return losses.normalize(content), 0.5 * style

    def pair(rng, count):
        first, second, third = jax.random.split(rng, 3)
        content, style = latents(first, count)
        moved = content + 0.1 * jax.random.normal(second, content.shape)
        other = style if shared_style else latents(third, count)[1]
        return (content, style), (losses.normalize(moved), other)

    def observe(maps, slope, view):
        x = jnp.concatenate(view, axis=1) @ maps[0]
        for matrix in maps[1:]:
            x = jnp.where(x > 0, x, slope * x) @ matrix
        return x

    held = latents(jax.random.key(2), 2 * _HELD)

    def train(maps, slope, rng):
        x = observe(maps, slope, held)
        params, state = encoder.init(rng, x)

        def encode(params, x):
            return encoder.apply(params, state, x, train=True)[0]

        def loss(params, rng):
            a, b = (
                encode(params, observe(maps, slope, view))
                for view in pair(rng, batch_size)
            )
            return losses.clip(a, b, logit_scale=1 / temperature)

        params, _ = training.minimise(
            loss, params, jax.random.key(1), steps=steps, every=steps,
            optimizer=training.adam(3e-3, steps=steps),
        )  # fmt: skip
        return x, losses.normalize(encode(params, x))

    rngs = jax.random.split(jax.random.key(0), seeds)
    of_seeds = jax.vmap(train, in_axes=(0, None, 0))
    of_slopes = jax.vmap(of_seeds, in_axes=(None, 0, None))
    x, z = jax.jit(of_slopes)(maps, jnp.array(slopes), rngs)
    truth = dict(zip(("content", "style"), map(np.asarray, held), strict=True))
    r2 = {
        (rows, name): np.array([[_r2(v, t) for v in row] for row in values])
        for rows, values in (("x", np.asarray(x)), ("z", np.asarray(z)))
        for name, t in truth.items()
    }
    at = slopes.index(mild)
    z = np.asarray(z[at])
    turned = np.stack([_turned_back(rows, truth["content"]) for rows in z])
    raw, undone = (
        np.array([evaluate.mean_correlation(rows, truth["content"]) for rows in each])
        for each in (z, turned)
    )
    content, style = r2["z", "content"], r2["z", "style"]
    return outcome.Outcome(
        checks=(
            outcome.at_least(f"R² of content from z, slope {mild}", content[at], 0.95),
            outcome.at_most("R² of style from z, every slope", style, 0.1),
            outcome.at_least(
                f"R² of style from x, slope {mild}", r2["x", "style"][at], 0.5
            ),
            outcome.at_least(
                f"R² of content, slope {mild} − slope {min(slopes)}",
                content[at] - content[slopes.index(min(slopes))],
                0.02,
            ),
            outcome.at_least("MCC of content and z, R undone", undone, 0.95),
        ),
        data={
            "slopes": np.array(slopes),
            "r2": r2,
            "content": truth["content"][:400, 0],
            "z": z[raw.argmin(), :400, 0],
            "turned": turned[raw.argmin(), :400, 0],
        },
        said=(
            f"With slope {mild} a linear readout of z has R² {content[at].min():.2f} "
            f"or more for content and {style[at].max():.2f} or less for style, where "
            f"one of x has {r2['x', 'content'][at].min():.2f} and "
            f"{r2['x', 'style'][at].min():.2f} at least. With slope {min(slopes)} "
            f"content falls to {content.min():.2f}."
        ),
        correction=(
            "On the sphere, with cosines, content is found up to a rotation, not up to "
            f"a permutation and maps of single components: MCC is {raw.min():.2f} to "
            f"{raw.max():.2f}, and {undone.min():.2f} or more with a rotation undone."
        ),
    )


def _r2(z, truth):
    """Of a linear readout, on rows it was not fitted to."""
    fit, held = slice(0, _HELD), slice(_HELD, None)
    return evaluate.ridge_r2(z[fit], truth[fit], z[held], truth[held]).mean


def _turned_back(z, content):
    """The codes, turned by the rotation that brings them nearest to the content."""
    left, _, right = np.linalg.svd(z.T @ content)
    return z @ (left @ right)


def draw(figure, found: outcome.Outcome) -> None:
    """R² against the slope; a coordinate of z against that of content."""
    left, right = figure.subplots(1, 2)
    d = found.data
    for (rows, name), values in d["r2"].items():
        colour = figures.COLOURS[0 if name == "content" else 1]
        label = f"{name} from {rows}"
        if rows == "z":
            figures.band(left, d["slopes"], values.T, colour, label)
        else:
            mean = values.mean(1)
            left.plot(d["slopes"], mean, color=colour, linestyle=":", label=label)
    left.set(xscale="log", ylim=(-0.05, 1.05), xlabel="slope of the generator's ReLUs")
    left.set_xticks(d["slopes"], [f"{slope:g}" for slope in d["slopes"]])
    left.set_xticks([], minor=True)
    left.set(title="R² of a linear readout")
    left.legend(loc="center right")
    names = {"z": "z as it is", "turned": "R undone"}
    for (name, label), colour in zip(
        names.items(), (figures.COLOURS[6], figures.COLOURS[2]), strict=True
    ):
        right.plot(d["content"], d[name], ".", color=colour, label=label, alpha=0.7)
    right.set(xlabel="first coordinate of content", ylabel="of z")
    right.set(ylim=(-1.1, 1.5), title="one coordinate, held-out points")
    right.legend(loc="upper left", ncols=2)

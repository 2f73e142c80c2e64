"""Contrastive learning inverts the generator: content is recovered, style is not.

x = g(c, s), content c uniform on the sphere, style s normal. The second view has the
content of the first, but for some noise, and style of its own. Then the minimiser of
InfoNCE is f(g(c, s)) = Rc with R orthogonal (Zimmermann et al. 2021, arXiv:2102.08850,
theorem 2): a linear readout of z has R² near 1 for c and 0 for s (von Kügelgen et al.
2021, arXiv:2106.04619), though x holds both. Where style is shared by the views it is
content.

In the figure R² against the slope of the generator's leaky ReLUs. At 1 it is linear; the
closer to 0, the nearer it comes to losing what is negative, and the less of the content
is found in the same number of steps. On the right single coordinates of z: each is a
mixture of the content's until R is undone.
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
    seeds: int = 2,
    slopes: tuple[float, ...] = (1.0, 0.2, 0.05),
    mild: float = 0.2,
    steps: int = 800,
    batch_size: int = 256,
    shared_style: bool = False,
) -> outcome.Outcome:
    """Trains an encoder for each generator with InfoNCE on fresh pairs.

    Args:
      seeds: generators of each slope.
      slopes: of the generators' leaky ReLUs, in (0, 1].
      mild: of these, where content must be found.
      steps: of Adam.
      batch_size: pairs in a step.
      shared_style: whether both views have the style of the first.
    """
    maps = [
        random_maps(seed, (_CONTENT + _STYLE, *3 * (_OBSERVED,)), gain=1.5)
        for seed in range(seeds)
    ]
    maps = [jnp.asarray(np.stack(m), jnp.float32) for m in zip(*maps, strict=True)]
    encoder = networks.mlp(features=(128, 128), out=_CONTENT, batch_norm=False)

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
            return losses.clip(a, b, logit_scale=10.0)

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
    turned = z[slopes.index(mild)]
    turned, turns = zip(*(_undone(z, truth["content"]) for z in turned), strict=True)
    mcc = np.array([
        [evaluate.mean_correlation(z, truth["content"]) for z in pair]
        for pair in zip(z[slopes.index(mild)], turned, strict=True)
    ])  # fmt: skip
    at = slopes.index(mild)
    content, style = r2["z", "content"], r2["z", "style"]
    return outcome.Outcome(
        checks=(
            outcome.at_least(f"R² of content from z, slope {mild}", content[at], 0.95),
            outcome.at_most(f"R² of style from z, slope {mild}", style[at], 0.1),
            outcome.at_least(
                f"R² of style from x, slope {mild}", r2["x", "style"][at], 0.5
            ),
            outcome.at_least("MCC of content and z turned back", mcc[:, 1], 0.95),
        ),
        data={
            "slopes": np.array(slopes),
            "r2": r2,
            "z": z,
            "mcc": mcc,
            "turns": turns,
        },
        said="",
        correction="",
    )


def _r2(z, truth):
    """Of a linear readout, on rows it was not fitted to."""
    fit, held = slice(0, _HELD), slice(_HELD, None)
    return evaluate.ridge_r2(z[fit], truth[fit], z[held], truth[held]).mean


def _undone(z, content):
    """The codes turned back to the content by the nearest rotation, and that map."""
    left, values, right = np.linalg.svd(np.asarray(z).T @ content)
    return z @ (left @ right), values / len(z)


def draw(figure, found: outcome.Outcome) -> None:
    d = found.data

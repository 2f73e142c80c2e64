"""bfloat16 and rematerialisation save memory and leave the loss as it is.

A backward pass reads what the forward pass kept. In bfloat16 that is half as wide, but
for softmax and the statistics of normalisation, which stay float32. Rematerialisation
keeps one input for each block and computes the block again (Chen et al. 2016,
arXiv:1604.06174): for L blocks that keep a bytes each, about L·(input) + a instead of
L·a. Here a vision transformer under NT-Xent, whose log-sum-exp is float32 throughout.

In the figure on the left what the compiler sets aside for the gradient, beside the
arrays kept for it; XLA for CPUs computes bfloat16 in float32, and gains less than it
could. On the right what is kept against the depth: rematerialised, hardly more.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import losses, networks

SECTION = "11.2"
TITLE = "Mixed precision and rematerialisation"
_VARIANTS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32", "remat": False},
    "bfloat16": {"dtype": "bfloat16", "remat": False},
    "rematerialised": {"dtype": "float32", "remat": True},
}
_TAU = 0.2


def run(
    *,
    depth: int = 4,
    depths: tuple[int, ...] = (1, 2, 4),
    width: int = 128,
    batch_size: int = 64,
    loss_dtype: Literal["float32", "bfloat16"] = "float32",
) -> outcome.Outcome:
    """Compiles and runs the gradient of one step, three ways.

    Args:
      depth: transformer blocks of the network that is compiled.
      depths: of those of which the kept arrays are counted.
      width: of their tokens.
      batch_size: pairs of views, 32 × 32 in 16 patches.
      loss_dtype: of the similarities and their log-sum-exp beside a bfloat16 encoder;
        in bfloat16 they are too coarse.
    """
    views = np.random.default_rng(0).normal(size=(2 * batch_size, 32, 32, 3))
    views = jnp.asarray(views, jnp.float32)

    def network(depth, **how):
        return networks.vit(patch=8, width=width, depth=depth, heads=4, **how)

    def objective(depth, how):
        encoder = network(depth, **how)

        def loss(params, views):
            h, _ = encoder.apply(params, {}, views, train=True)
            a, b = h[0::2], h[1::2]
            if loss_dtype == how["dtype"] == "bfloat16":
                return _rounded(a, b)
            return losses.nt_xent(a, b, temperature=_TAU)

        return loss

    def kept(depth, name):
        """Bytes of the arrays of the backward pass that grow with the batch.

        Parameters do not, nor do their copies, stacked or in bfloat16.
        """
        loss = objective(depth, _VARIANTS[name])
        shapes = jax.eval_shape(network(depth).init, jax.random.key(0), views)[0]

        def saved(rows):
            x = jax.ShapeDtypeStruct((rows, *views.shape[1:]), views.dtype)
            tree = jax.eval_shape(lambda *args: jax.vjp(loss, *args)[1], shapes, x)
            return jax.tree.leaves(tree)

        both = zip(saved(len(views)), saved(2 * len(views)), strict=True)
        return float(sum(
            x.size * x.dtype.itemsize for x, twice in both if x.shape != twice.shape
        ))  # fmt: skip

    # This generator of random bits compiles faster than the default one.
    rng = jax.random.key(0, impl="unsafe_rbg")
    params = jax.jit(network(depth).init)(rng, views)[0]
    value, grads, planned = {}, {}, {}
    for name, how in _VARIANTS.items():
        step = jax.jit(jax.value_and_grad(objective(depth, how)))
        compiled = step.lower(params, views).compile()
        planned[name] = float(compiled.memory_analysis().temp_size_in_bytes)
        found, tree = compiled(params, views)
        value[name] = float(found)
        grads[name] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    depths = tuple(sorted({*depths, depth}))
    counted = {n: np.array([kept(d, n) for d in depths]) for n in _VARIANTS}
    own = {name: sizes[depths.index(depth)] for name, sizes in counted.items()}

    def saved(of, name):
        return of["float32"] / of[name]

    def apart(name):
        exact = grads["float32"]
        return np.linalg.norm(grads[name] - exact) / np.linalg.norm(exact)

    def miss(name):
        return abs(value[name] / value["float32"] - 1)

    return outcome.Outcome(
        checks=(
            outcome.at_most(
                # What is more is for the cotangent of an MLP's hidden layer.
                "|memory by the compiler / bytes kept − 1|, float32",
                abs(planned["float32"] / own["float32"] - 1),
                0.08,
            ),
            outcome.at_least("kept: float32 / bfloat16", saved(own, "bfloat16"), 1.4),
            # Compiled for CPUs it cannot be half, but it must not be more.
            outcome.at_least(
                "compiler: float32 / bfloat16", saved(planned, "bfloat16"), 1.0
            ),
            outcome.at_least(
                "compiler: float32 / rematerialised",
                saved(planned, "rematerialised"),
                2.0,
            ),
            outcome.at_most(
                "relative loss difference, rematerialised", miss("rematerialised"), 1e-6
            ),
            outcome.at_most(
                "relative loss difference, bfloat16", miss("bfloat16"), 1e-3
            ),
            outcome.at_most(
                "relative gradient difference, rematerialised",
                apart("rematerialised"),
                1e-5,
            ),
            outcome.at_most(
                "relative gradient difference, bfloat16", apart("bfloat16"), 0.05
            ),
        ),
        data={
            "planned": planned,
            "kept": own,
            "depth": depth,
            "depths": np.array(depths),
            "counted": counted,
        },
        said=(
            f"{depth} blocks: the compiler plans {planned['float32'] / 1e6:.0f} MB, "
            f"rematerialised {planned['rematerialised'] / 1e6:.0f}, in bfloat16 "
            f"{planned['bfloat16'] / 1e6:.0f}. bfloat16 moves the loss by "
            f"{miss('bfloat16'):.0e} and the gradient by {apart('bfloat16'):.1%}, "
            f"rematerialisation by {miss('rematerialised'):.0g} and "
            f"{apart('rematerialised'):.0g}."
        ),
        correction=(
            "Not a factor of two each. Rematerialisation gains with depth: here "
            f"{saved(counted, 'rematerialised')[0]:.1f}× of what {depths[0]} block "
            f"keeps, {saved(counted, 'rematerialised')[-1]:.1f}× of {depths[-1]}. "
            f"bfloat16 gains {saved(own, 'bfloat16'):.1f}×, as softmax and "
            f"normalisation stay float32, and {saved(planned, 'bfloat16'):.1f}× as "
            "compiled for CPUs."
        ),
    )


def _rounded(a, b):
    """NT-Xent with similarities, log-sum-exp and mean in bfloat16."""
    z = losses.normalize(jnp.stack([a, b], axis=1).reshape(-1, a.shape[1]))
    z = z.astype(jnp.bfloat16)
    s = z @ z.T / jnp.bfloat16(_TAU)
    own = np.arange(len(z))
    positive = s[own, own ^ 1]
    s = jnp.where(np.eye(len(z), dtype=bool), -jnp.inf, s)
    return jnp.mean(jax.nn.logsumexp(s, axis=1) - positive).astype(jnp.float32)


def draw(figure, found: outcome.Outcome) -> None:
    """Memory by the compiler and bytes kept; bytes kept against the depth."""
    left, right = figure.subplots(1, 2)
    d = found.data
    place = np.arange(len(d["planned"]))
    for shift, name, label, colour in (
        (-0.2, "planned", "by the compiler", figures.COLOURS[0]),
        (0.2, "kept", "arrays kept", figures.COLOURS[6]),
    ):
        size = np.array(list(d[name].values())) / 1e6
        left.barh(place + shift, size, 0.38, color=colour, label=label)
        for y, value in zip(place + shift, size, strict=True):
            left.text(value + 2, y, f"{value:.0f}", va="center", fontsize=8.5)
    left.set_yticks(place, list(d["planned"]))
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    left.set(xlabel="MB", title=f"memory of a gradient, {d['depth']} blocks")
    left.legend(loc="lower right")
    for (name, sizes), colour in zip(
        d["counted"].items(), figures.COLOURS, strict=False
    ):
        right.plot(d["depths"], sizes / 1e6, "o-", color=colour, label=name)
    right.set(xlabel="blocks", ylabel="MB", ylim=0, title="arrays kept")
    right.set_xticks(d["depths"])
    right.legend(loc="upper left")

"""A classifier that tells two samples apart has their log density ratio as its logit.

With as many points of p as of q, the cross-entropy is least where

    logit(x) = log p(x) − log q(x)

(Sugiyama, Suzuki & Kanamori 2012); with r points of q for each of p, the logit is short
by log r. InfoNCE does the same with K candidates (van den Oord et al. 2018), p the
pairs and q the independent ones: no density is ever fitted.

In the figure each point is a place x, the learned logit against the exact ratio: they
lie on the diagonal, in slope and in height. A correlation sees neither; the
root-mean-square difference does.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import networks

SECTION = "5.4"
TITLE = "Classification estimates the density ratio"

MEAN = np.array([0.7, -0.4])
COVARIANCE = np.array([[1.2, 0.4], [0.4, 0.8]])


def run(
    *, seeds: int = 3, steps: int = 1000, negatives: int = 1, corrected: bool = True
) -> outcome.Outcome:
    """Trains classifiers of N(m, Σ) against N(0, I) in the plane on fresh points.

    Args:
      seeds: networks, trained together.
      steps: of Adam, on 512 points of each law.
      negatives: r, how often a point of q weighs as much as one of p.
      corrected: whether log r is added to the logit.
    """
    root = jnp.asarray(np.linalg.cholesky(COVARIANCE), jnp.float32)
    network = networks.mlp(
        features=(64, 64), out=1, activation="silu", batch_norm=False
    )

    def loss(params, rng):
        p, q = jax.random.normal(rng, (2, 512, 2))
        x = jnp.concatenate([p @ root.T + jnp.asarray(MEAN, jnp.float32)[None], q])
        logit = network.apply(params, {}, x, train=True)[0][:, 0]
        is_p = jnp.arange(len(x)) < len(p)
        cost = optax.sigmoid_binary_cross_entropy(logit, is_p.astype(jnp.float32))
        return jnp.mean(jnp.where(is_p, cost, negatives * cost))

    points = np.random.default_rng(0).normal(size=(2, 500, 2))
    points[0] = points[0] @ np.linalg.cholesky(COVARIANCE).T + MEAN
    points = points.reshape(-1, 2)

    def train(rng, data_rng):
        params, _ = network.init(rng, jnp.zeros((1, 2)))
        params, losses = training.minimise(
            loss, params, data_rng, steps=steps,
            optimizer=training.adam(3e-3, steps=steps), every=10,
        )  # fmt: skip
        logit, _ = network.apply(
            params, {}, jnp.asarray(points, jnp.float32), train=False
        )
        return logit[:, 0], losses

    rng, data_rng = jax.random.split(jax.random.key(0))
    starts = jax.random.split(rng, seeds)
    logits, _ = jax.jit(jax.vmap(train, in_axes=(0, None)))(starts, data_rng)
    found = np.asarray(logits, np.float64)
    if corrected:
        found = found + np.log(negatives)
    exact = _log_ratio(points)
    correlation = np.array([np.corrcoef(exact, row)[0, 1] for row in found])
    miss = np.sqrt(np.mean(np.square(found - exact), axis=1))
    return outcome.Outcome(
        checks=(
            outcome.at_least("correlation of logit and log ratio", correlation, 0.99),
            outcome.at_most("rms of logit − log ratio", miss, 0.15, unit="nat"),
        ),
        data={
            # A few hundred of them make the picture.
            "exact": exact[::4],
            "found": found[:, ::4],
            "points": points[::4],
        },
        said=(
            f"Over {len(points)} points of both laws the logit has correlation "
            f"{correlation.min():.4f} or more with the log ratio and is "
            f"{miss.max():.3f} nat off or less (root mean square, {seeds} networks)."
        ),
    )


def _log_ratio(x: np.ndarray) -> np.ndarray:
    """Log N(x; m, Σ) − log N(x; 0, I) in float64."""
    gap = x - MEAN
    square = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(COVARIANCE), gap)
    return 0.5 * (np.square(x).sum(1) - square - np.linalg.slogdet(COVARIANCE)[1])


def draw(figure, found: outcome.Outcome) -> None:
    """Learned against exact, and where in the plane they differ."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    d = found.data
    ends = [d["exact"].min(), d["exact"].max()]
    left.plot(ends, ends, color=figures.FAINT, linestyle="--")
    for row in d["found"]:
        left.plot(d["exact"], row, ".", color=figures.COLOURS[0], markersize=3)
    left.set(xlabel="log p(x) − log q(x), nat", ylabel="logit, nat",
             title="a dot a place x")  # fmt: skip
    gap = d["found"].mean(0) - d["exact"]
    shown = right.scatter(*d["points"].T, c=gap, s=12, cmap="coolwarm", vmin=-0.4,
                          vmax=0.4)  # fmt: skip
    right.set(xlabel="x₁", ylabel="x₂", title="logit − log ratio, nat")
    right.set_aspect("equal")
    bar = figure.colorbar(shown, ax=right)
    bar.outline.set_visible(False)

"""exp(s/τ) overflows below τ = 1/88.7; a streamed log-sum-exp never does.

The largest cosine is 1, and float32, like bfloat16, ends at e^88.7: written as it
stands, log Σ exp(s/τ) is infinite for τ ≤ 0.011, and its gradient ∞/∞. Shifted by a
bound of the exponent, tile by tile, it is exact at every τ.

The temperature also sets how decided the softmax is. H/log K, its entropy in units of
the largest possible, is 1 where all candidates count the same and 0 where one counts
(Wang & Liu 2021, arXiv:2012.09740). Here SimCLR networks on digits, one for each τ.

In the figure on the left what either form gives; in the middle entropy and loss of the
trained networks: both near their ceiling for large τ, level for small ones, as networks
spread their cosines to fit. On the right the gradient, which grows as τ falls.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, evaluate, losses, networks, pairwise

SECTION = "11.3"
TITLE = "Temperature: overflow, entropy and gradient"
OVERFLOW = (1.0, 0.5, 0.1, 0.05, 0.02, 0.0115, 0.011, 0.01, 0.005)


def run(
    *,
    taus: tuple[float, ...] = (10.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.01, 0.005),
    seeds: int = 2,
    steps: int = 150,
    batch_size: int = 64,
    form: Literal["streaming", "naive"] = "streaming",
) -> outcome.Outcome:
    """Log-sum-exps of random embeddings, then SimCLR at each temperature.

    Args:
      taus: temperatures of training, the largest first.
      seeds: networks of each.
      steps: of Adam.
      batch_size: pairs of views.
      form: of the log-sum-exp that is compared with float64.
    """
    sums = _sums()
    mine = sums[form]
    shares = {
        name: np.array([check(x).mean() for x in sums[name]])
        for name, check in (
            ("naive", np.isfinite), ("naive gradient", np.isnan),
        )
    }  # fmt: skip
    held, falls = OVERFLOW.index(0.0115), OVERFLOW.index(0.011)
    miss = np.abs(mine - sums["float64"]) * np.array(OVERFLOW)[:, None]

    trained = _trained(taus, seeds, steps, batch_size)
    entropy, reference = (
        np.array([[f(a, b, tau) for a, b in zip(*pair, strict=True)]
                  for tau, *pair in zip(taus, *trained["z"], strict=True)])
        for f in (_entropy, _entropy_float64)
    )  # fmt: skip
    probe, untrained = (
        np.array([[_probe(h, trained["labels"]) for h in row] for row in rows])
        for rows in (trained["h"], trained["start"][:1])
    )
    gain = probe.mean(1) - untrained.mean()
    best = int(gain.argmax())
    ceiling = np.log(2 * batch_size - 1)
    loss, norms = trained["loss"] / ceiling, trained["norm"]
    first, last = (norms[name].mean(1) for name in ("first", "last"))
    finite = [t for t, x in zip(OVERFLOW, shares["naive"], strict=True) if x == 1]
    infinite = [t for t, x in zip(OVERFLOW, shares["naive"], strict=True) if x == 0]
    precise = (
        f"it is within {miss.max():.0e}/τ of float64 at every τ"
        if np.isfinite(miss).all()
        else "it is not at every τ"
    )
    return outcome.Outcome(
        checks=(
            outcome.equal(
                "rows of the naive form finite, τ = 0.0115",
                shares["naive"][held],
                1.0,
                tolerance=0,
            ),
            outcome.equal(
                "rows of the naive form finite, τ ≤ 0.011",
                shares["naive"][falls:],
                0.0,
                tolerance=0,
            ),
            outcome.equal(
                "rows whose naive gradient has NaN, τ ≤ 0.011",
                shares["naive gradient"][falls:],
                1.0,
                tolerance=0,
            ),
            outcome.at_most(f"τ·|{form} − float64|, every τ", miss, 1e-6),
            outcome.at_most(
                "|H/log K − float64|, trained, every τ",
                np.abs(entropy - reference),
                1e-3,
            ),
            outcome.at_least(f"loss / log K at τ = {taus[0]:g}", loss[0], 0.95),
            outcome.at_least(
                f"first gradient, τ = {taus[-1]:g} / τ = {taus[1]:g}",
                norms["first"][-1] / norms["first"][1],
                10,
            ),
            outcome.at_least(
                f"last gradient, τ = {taus[-1]:g} / τ = {taus[1]:g}",
                norms["last"][-1] / norms["last"][1],
                3,
            ),
            outcome.at_least(
                f"probe of h − untrained, mean, τ = {taus[best]:g}", gain[best], 0.02
            ),
            outcome.at_least(
                f"probe of h − untrained, mean, τ = {taus[0]:g}", gain[0], 0.0
            ),
        ),
        data={
            "overflow": np.array(OVERFLOW),
            "sums": sums,
            "taus": np.array(taus),
            "entropy": entropy,
            "loss": loss,
            "norms": norms,
            "probe": probe,
        },
        said=(
            "The naive form is finite down to τ = "
            f"{min(finite, default=np.inf):g} and infinite from "
            f"{max(infinite, default=0):g} on; {form} {precise}. Trained, "
            f"H/log K goes from {entropy[0].mean():.2f} at τ = {taus[0]:g} to "
            f"{entropy[-1].mean():.2f} at {taus[-1]:g}; the first gradient from "
            f"{first[0]:.2g} to {first[-1]:.2g}, the last from {last[0]:.2g} to "
            f"{last[-1]:.2g}."
        ),
        correction=(
            "The naive form gives an infinite loss, not NaN; NaN is its gradient. At a "
            "small τ the gradient norm does fall in training, at τ = "
            f"{taus[-1]:g} from {first[-1]:.2g} to {last[-1]:.2g}, but it starts and "
            f"ends above that of τ = {taus[1]:g} ({first[1]:.2g} to {last[1]:.2g}): it "
            f"does not vanish. At τ = {taus[0]:g} the loss is {loss[0].mean():.0%} "
            f"of log K, and still a probe of h finds {probe[0].mean():.1%}, not as at "
            f"random: training adds {gain[0]:.1%} to the untrained "
            f"{untrained.mean():.1%}, at τ = {taus[best]:g} {gain[best]:.1%}, at τ = "
            f"{taus[-1]:g} {gain[-1]:.1%}."
        ),
    )


def _sums():
    """Log Σ_j exp(⟨z_i, z_j⟩/τ) for each τ, three ways: [τ, rows]; naive gradients."""
    z = np.random.default_rng(0).normal(size=(256, 64))
    z = losses.normalize(jnp.asarray(z, jnp.float32))

    def naive(z, scale):
        return jnp.log(jnp.sum(jnp.exp(scale * (z @ z.T)), axis=1))

    def each(z, scale):
        grads = jax.grad(lambda z: naive(z, scale).sum())(z)
        streaming = pairwise.logsumexp(z, z, scale=scale, max_norm=1.0)
        return naive(z, scale), jnp.sum(grads, axis=1), streaming

    scales = jnp.array([1 / tau for tau in OVERFLOW])
    found = jax.jit(lambda z, s: jax.lax.map(lambda scale: each(z, scale), s))(
        z, scales
    )
    exact = np.asarray(z, np.float64)
    exact = [_logsumexp(exact @ exact.T / tau) for tau in OVERFLOW]
    names = "naive", "naive gradient", "streaming"
    sums = {n: np.asarray(v, np.float64) for n, v in zip(names, found, strict=True)}
    return sums | {"float64": np.array(exact)}


def _trained(taus, seeds: int, steps: int, batch_size: int):
    """Loss and gradient of a network for each τ and seed, and its codes of digits."""
    source = data.digits()
    images, held = (
        jnp.asarray(part.images.reshape(-1, 64) / 255, jnp.float32)
        for part in (source, source.held_out)
    )
    encoder = networks.mlp(features=(64,), out=64, batch_norm=False)
    head = networks.mlp(features=(64,), out=32, batch_norm=False)

    def view(rng, x):
        first, second = jax.random.split(rng)
        gain = jax.random.uniform(first, (len(x), 1), minval=0.7, maxval=1.3)
        return x * gain + 0.3 * jax.random.normal(second, x.shape)

    def train(tau, rng):
        first, second = jax.random.split(rng)
        bottom, state = encoder.init(first, images[:2])
        top, top_state = head.init(second, jnp.zeros((2, 64)))
        start = bottom, top

        def h(params, x):
            return encoder.apply(params[0], state, x, train=True)[0]

        def z(params, x):
            return head.apply(
                params[1], top_state, jax.nn.relu(h(params, x)), train=True
            )[0]

        def loss(params, rng):
            rows, first, second = jax.random.split(rng, 3)
            x = images[jax.random.randint(rows, (batch_size,), 0, len(images))]
            a, b = z(params, view(first, x)), z(params, view(second, x))
            # τ differs under vmap, where the streaming form would take both its paths.
            return losses.nt_xent(a, b, temperature=tau, implementation="dense")

        def record(params):
            value, grads = jax.value_and_grad(loss)(params, jax.random.key(2))
            return value, optax.tree.norm(grads)

        params, records = training.minimise(
            loss, start, jax.random.key(1), steps=steps, every=steps,
            optimizer=training.adam(2e-3, steps=steps), record=record,
        )  # fmt: skip
        views = [z(params, view(jax.random.key(i), held)) for i in (3, 4)]
        rows = h(start, held), h(params, held), views
        return records[1][0], record(params), *rows

    of_seeds = jax.vmap(train, in_axes=(None, 0))
    of_taus = jax.jit(jax.vmap(of_seeds, in_axes=(0, None)))
    rngs = jax.random.split(jax.random.key(0), seeds)
    found = of_taus(jnp.array(taus), rngs)
    first, (loss, last), start, h, views = jax.tree.map(np.asarray, found)
    return {
        "loss": loss,
        "norm": {"first": first, "last": last},
        "start": start,
        "h": h,
        "z": views,
        "labels": source.held_out.labels,
    }


def _entropy(a, b, tau):
    return evaluate.softmax_sharpness(a, b, temperature=tau).entropy


def _entropy_float64(a, b, tau):
    """H/log K of the softmax of each row over those of b, the matrix held."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in np.float64([a, b]))
    s = a @ b.T / tau
    log_p = s - _logsumexp(s)[:, None]
    return -np.sum(np.exp(log_p) * log_p, axis=1).mean() / np.log(len(b))


def _logsumexp(s):
    peak = s.max(1)
    return peak + np.log(np.exp(s - peak[:, None]).sum(1))


def _probe(h, labels):
    """Ridge accuracy of one half of the held-out digits on the other."""
    return evaluate.ridge_probe(h[::2], labels[::2], h[1::2], labels[1::2]).mean


def draw(figure, found: outcome.Outcome) -> None:
    """Either form against τ; entropy, loss and probe; gradient norms."""
    left, middle, right = figure.subplots(1, 3)
    d = found.data
    tau = d["overflow"]
    sums = {name: values.mean(1) for name, values in d["sums"].items()}
    left.plot(tau, sums["streaming"], "o-", color=figures.COLOURS[0], label="streaming")
    finite = np.isfinite(sums["naive"])
    left.plot(
        tau[finite], sums["naive"][finite], "x", color=figures.COLOURS[1],
        markersize=8, label="naive",
    )  # fmt: skip
    left.axvspan(tau.min(), 1 / 88.72, color=figures.COLOURS[1], alpha=0.15)
    left.text(0.0056, 6.5, "naive\n= ∞")
    left.set(xscale="log", yscale="log", xlabel="τ", title="log Σ exp(s/τ) [nat]")
    left.legend()
    middle.axhline(1, color=figures.FAINT, linestyle=":")
    for name, label, colour in (
        ("loss", "loss / log K", figures.COLOURS[1]),
        ("entropy", "entropy / log K", figures.COLOURS[0]),
        ("probe", "accuracy of a probe", figures.COLOURS[6]),
    ):
        figures.band(middle, d["taus"], d[name].T, colour, label)
    middle.set(xscale="log", ylim=(0, 1.05), xlabel="τ", title="after training")
    middle.legend(loc="lower right")
    for (name, values), colour in zip(
        d["norms"].items(), figures.COLOURS[2:], strict=False
    ):
        figures.band(right, d["taus"], values.T, colour, f"{name} step")
    right.set(xscale="log", yscale="log", xlabel="τ", title="norm of the gradient")
    right.legend()

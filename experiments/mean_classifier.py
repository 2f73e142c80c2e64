"""A small contrastive loss makes the mean classifier good: L_sup ≤ (L_un − c)/(1 − c).

Latent classes with priors ρ, x and x⁺ of one class, x⁻ of a class drawn anew, so of the
same one with probability c = Σ ρ². With ℓ(v) = log₂(1 + e^{−v}) and class means μ_c,

    L_un  = E ℓ(f(x)ᵀ(f(x⁺) − f(x⁻))),
    L_sup = E[ℓ(f(x)ᵀ(μ_c − μ_c')) | c ≠ c'] ≥ error of the mean classifier

(Saunshi et al. 2019, arXiv:1902.09229). Proof: ℓ is convex, so the means
may be pulled inside; where the negative is of the same class, ℓ averages to ℓ(0) = 1 or
more. That 1 is why the logarithm must be to base 2. The population here is finite, and
every expectation exact.

In the figure the bound stays above the loss it bounds, and that above the error, at
every step of training; in nats the bound crosses the loss.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import evaluate, networks

SECTION = "9.4"
TITLE = "The contrastive loss bounds that of the mean classifier"


def run(
    *,
    seeds: int = 3,
    steps: int = 300,
    classes: int = 6,
    examples: int = 10,
    base: float = 2.0,
) -> outcome.Outcome:
    """Trains MLPs on the exact L_un; both sides are recorded at every step.

    Args:
      seeds: populations with a network each, trained together.
      steps: of Adam.
      classes: their priors are drawn from a Dirichlet distribution.
      examples: of each class; the population is all of them.
      base: of the logarithm in ℓ; 2 is the theorem's.
    """
    rng = np.random.default_rng(0)
    priors = rng.dirichlet(np.full(classes, 3.0))
    labels = np.repeat(np.arange(classes), examples)
    x = rng.normal(size=(seeds, classes, 1, 10))
    x = x + rng.normal(size=(seeds, classes, examples, 10))
    x = jnp.asarray(x.reshape(seeds, -1, 10), jnp.float32)
    network = networks.mlp(features=(32,), out=4, batch_norm=False)

    def train(rng, x):
        params, state = network.init(rng, x)

        def guarantee(params):
            f, _ = network.apply(params, state, x, train=True)
            return evaluate.contrastive_guarantee(f, labels, priors=priors), f

        def loss(params, rng):
            del rng  # the whole population at once
            return guarantee(params)[0].unsupervised

        def record(params):
            found, f = guarantee(params)
            return found.unsupervised, found.supervised, _error(f, labels, priors), f

        optimizer = optax.adam(5e-3)
        return training.minimise(
            loss, params, rng, steps=steps, optimizer=optimizer, record=record
        )[1]

    rngs = jax.random.split(jax.random.key(0), seeds)
    records = jax.jit(jax.vmap(train))(rngs, x)
    in_bits, supervised, error, f = (np.asarray(r, np.float64) for r in records)
    collision = float(np.square(priors).sum())

    def sides(base):
        """L_sup and its bound, with ℓ to that base."""
        bits = math.log(2) / math.log(base)
        bound = (bits * in_bits - collision) / (1 - collision)
        return bits * supervised, bound

    # That one of k negatives at least is of the class of x.
    few, many = (1 - np.sum(priors * (1 - priors) ** k) for k in (1, 10))
    loss, bound = sides(base)
    nats, bound_in_nats = sides(math.e)
    violated = np.sum(bound_in_nats < nats, axis=1)
    last = [_reference(rows, labels, priors) for rows in f[:, -1]]
    found = np.stack([in_bits[:, -1], supervised[:, -1]], axis=1)
    return outcome.Outcome(
        checks=(
            outcome.at_least(
                "(L_un − c)/(1 − c) − L_sup, smallest of all steps", bound - loss, 0
            ),
            outcome.at_least("L_sup − error of the pairs of classes", loss - error, 0),
            outcome.at_most(
                "|L_un, L_sup − float64 over all triples|", np.abs(found - last), 1e-5
            ),
            outcome.at_least(
                "share of steps at which nats violate it", violated / steps, 0.5
            ),
        ),
        data={
            "step": np.arange(steps),
            "loss": loss,
            "bound": bound,
            "error": error,
            "nats": nats,
            "bound in nats": bound_in_nats,
        },
        said=(
            f"c = {collision:.3f}. At all {steps} steps of {seeds} populations the "
            f"bound is above the loss, by {(bound - loss).min():.4f} bit at least; at "
            f"the end L_sup is {loss[:, -1].mean():.4f} and the bound "
            f"{bound[:, -1].mean():.4f}."
        ),
        correction=(
            "The bound holds for the loss over pairs of classes, in bits. With natural "
            f"logarithms it is violated at {violated.min()} to {violated.max()} of "
            f"{steps} steps, and c must become c·log 2. Nor does the irreducible term "
            "decrease in the number of negatives: the chance that one of k is of the "
            f"class of x is 1 − Σ ρ(1 − ρ)^k, {few:.2f} for k = 1 and {many:.2f} for "
            "k = 10."
        ),
    )


def _error(f, labels, priors):
    """How often the mean classifier of a pair of classes is wrong, ties included."""
    member = np.eye(len(priors))[labels]
    means = jnp.asarray(member.T / member.sum(0)[:, None], f.dtype) @ f
    scores = f @ means.T
    own = jnp.sum(scores * member, axis=1, keepdims=True)
    pair = np.outer(priors, priors) * (1 - np.eye(len(priors)))
    weight = (pair / pair.sum() / member.sum(0)[:, None])[labels]
    return jnp.sum(weight * (own <= scores))


def _reference(f, labels, priors):
    """L_un and L_sup in float64, one class at a time, every triple held."""

    def loss(v):
        return np.log2(1 + np.exp(-v))

    members = [f[labels == c] for c in range(len(priors))]
    unsupervised = supervised = apart = 0.0
    for c, rows in enumerate(members):
        for other, negatives in enumerate(members):
            chance = priors[c] * priors[other]
            gaps = (rows @ rows.T)[:, :, None] - (rows @ negatives.T)[:, None]
            unsupervised += chance * loss(gaps).mean()
            if c != other:
                gap = rows @ (rows.mean(0) - negatives.mean(0))
                supervised += chance * loss(gap).mean()
                apart += chance
    return unsupervised, supervised / apart


def draw(figure, found: outcome.Outcome) -> None:
    """Bound, loss and error against the step; bound less loss in bits and in nats."""
    left, right = figure.subplots(1, 2)
    d = found.data
    names = ("bound", "loss", "error")
    labels = ("(L_un − c)/(1 − c)", "L_sup", "error of the mean classifier")
    for name, label, colour in zip(names, labels, figures.COLOURS, strict=False):
        figures.band(left, d["step"], d[name], colour, label)
    left.set(yscale="log", ylim=(1e-3, 20), xlabel="step", ylabel="bit")
    left.set(title="bound, loss and error")
    left.legend(loc="upper right")
    figures.band(right, d["step"], d["bound"] - d["loss"], figures.COLOURS[0], "bit")
    gap = d["bound in nats"] - d["nats"]
    figures.band(right, d["step"], gap, figures.COLOURS[3], "nat")
    right.axhline(0, color=figures.FAINT, linestyle=":")
    right.set(xlabel="step", ylim=(-0.15, 0.4), title="bound − L_sup: below 0 violated")
    right.legend(title="ℓ in")

"""What a small contrastive loss promises of the mean classifier."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import core, lax

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments

_TILE = 2**22
"""Pairs of candidates held at a time."""
_CHUNK = 4096
"""Triples drawn at a time."""


class Guarantee(NamedTuple):
    """Both sides of L_sup^μ ≤ (L_un − c)/(1 − c), scalars, losses in bits.

    Attributes:
      unsupervised: L_un, the contrastive loss with one negative.
      supervised: L_sup^μ, the loss of the mean classifier over all pairs of classes.
      collision: c, the probability that two examples share their class.
      bound: (L_un − c)/(1 − c), never below `supervised` if exact.
      low, high: confidence interval of `bound`; both the bound itself if exact.
    """

    unsupervised: chex.Array
    supervised: chex.Array
    collision: chex.Array
    bound: chex.Array
    low: chex.Array
    high: chex.Array


@checked
def contrastive_guarantee(
    features: chex.Array, labels: chex.Array, *, priors: chex.Array | None = None
) -> Guarantee:
    """The bound of Saunshi et al. (2019, arXiv:1902.09229, theorem 4.1), exact.

    With ℓ(v) = log₂(1 + e^{−v}), classes c and c' drawn by the priors ρ, x and x⁺ from
    c, x⁻ from c', all independent, μ_c the mean feature of class c:

        L_un    = E ℓ(f(x)ᵀ(f(x⁺) − f(x⁻))),
        L_sup^μ = E[ℓ(f(x)ᵀ(μ_c − μ_c')) | c ≠ c'],
        c       = P(c = c') = Σ ρ².

    By Jensen, L_un ≥ c ℓ(0) + (1 − c) L_sup^μ, and ℓ(0) = 1 in bits: with a natural
    logarithm the bound does not hold. Here the examples are the whole population, each
    class uniform over its own; x⁺ may be x. A function of the features that can be
    differentiated and traced; labels and priors must be known.

    Args:
      features: f [n, D] of any float dtype; their length matters. The cost is that of
        n² examples of a class: for some thousand, take `sampled_guarantee`.
      labels: int [n] in [0, C), C ≥ 2; every class occurs.
      priors: ρ [C] > 0, normalised here. None: the share of each class in the labels.

    Returns:
      A `Guarantee`, in float32, or float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit, features that are not finite, labels or
        priors out of range, or a missing class.
    """
    population = _checked("contrastive_guarantee", features, labels, priors)
    unsupervised = _exact(population)
    return _guarantee(population, unsupervised, 0.0)


@checked
def sampled_guarantee(
    rng: chex.PRNGKey,
    features: chex.Array,
    labels: chex.Array,
    *,
    priors: chex.Array | None = None,
    samples: int = 65_536,
    confidence: float = 0.95,
) -> Guarantee:
    """`contrastive_guarantee` with L_un estimated from triples (x, x⁺, x⁻).

    L_sup^μ and c stay exact. The interval is that of a normal mean. The estimate may
    lie below `supervised` by chance; `high` should not.

    Args:
      rng: of the triples.
      features, labels, priors: see `contrastive_guarantee`.
      samples: triples, ≥ 2; drawn in rounds of 4096, the last one in full.
      confidence: of the interval, in (0, 1).

    Returns:
      A `Guarantee`.

    Raises:
      UsageError: as `contrastive_guarantee`, or samples or confidence out of range.
    """
    population = _checked("sampled_guarantee", features, labels, priors)
    arguments.counts("sampled_guarantee", 2, samples=samples)
    if not 0 < confidence < 1:
        raise UsageError(
            f"sampled_guarantee: confidence must be in (0, 1), got {confidence}"
        )
    rounds = -(-samples // _CHUNK)
    losses = _drawn(rng, population, rounds, min(samples, _CHUNK))
    error = losses.std(ddof=1) / losses.size**0.5
    quantile = jax.scipy.stats.norm.ppf((1 + confidence) / 2)
    return _guarantee(population, losses.mean(), quantile * error)


class _Population(NamedTuple):
    """Features [n, D], labels [n], priors [C], the rows of each class.

    The rows are [C, m] with m the largest class; `counts` [C] of them are real, the
    others repeat.
    """

    features: chex.Array
    labels: np.ndarray
    priors: np.ndarray
    rows: np.ndarray
    counts: np.ndarray


def _guarantee(population, unsupervised, margin) -> Guarantee:
    priors = population.priors
    collision = float(np.square(priors).sum())
    bound = (unsupervised - collision) / (1 - collision)
    margin = margin / (1 - collision)
    return Guarantee(
        unsupervised,
        _mean_classifier(population),
        jnp.asarray(collision, bound.dtype),
        bound,
        bound - margin,
        bound + margin,
    )


def _loss(v):
    """log₂(1 + e^{−v})."""
    return jax.nn.softplus(-v) / np.log(2)


@jax.jit
def _mean_classifier(population):
    f, labels, priors, _, counts = population
    classes = len(priors)
    member = jax.nn.one_hot(labels, classes, dtype=f.dtype) / counts[None]
    means = jnp.matmul(member.T, f, precision="highest")
    scores = jnp.matmul(f, means.T, precision="highest")
    own = jnp.take_along_axis(scores, labels[:, None], 1)
    pair = priors[:, None] * priors[None] * (1 - jnp.eye(classes))
    weight = (pair / pair.sum() / counts[:, None])[labels]
    return (weight.astype(f.dtype) * _loss(own - scores)).sum()


@jax.jit
def _exact(population):
    f, labels, priors, rows, counts = population
    weight = (priors / counts)[labels].astype(f.dtype)
    real = jnp.arange(rows.shape[1])[None] < counts[:, None]
    positive = real / counts[:, None].astype(f.dtype)

    together = min(max(_TILE // len(f), 1), rows.shape[1])

    @jax.checkpoint
    def row(i):
        scores = jnp.matmul(f, f[i], precision="highest")

        def against_all(own):
            return _loss(own - scores) @ weight

        losses = lax.map(against_all, scores[rows[labels[i]]], batch_size=together)
        return weight[i] * (positive[labels[i]] @ losses)

    at_a_time = max(_TILE // (together * len(f)), 1)
    return lax.map(row, jnp.arange(len(f)), batch_size=at_a_time).sum()


@functools.partial(jax.jit, static_argnums=(2, 3))
def _drawn(rng, population, rounds, size):
    """[rounds, size] losses of independent triples."""
    f, _, priors, rows, counts = population

    def one(rng):
        rng_class, *rngs = jax.random.split(rng, 4)
        classes = jax.random.categorical(rng_class, jnp.log(priors), shape=(2, size))

        def example(rng, c):
            return f[rows[c, jax.random.randint(rng, (size,), 0, counts[c])]]

        x, positive, negative = (
            example(r, classes[i]) for r, i in zip(rngs, (0, 0, 1), strict=True)
        )
        return _loss((x * (positive - negative)).sum(1))

    return lax.map(one, jax.random.split(rng, rounds))


def _checked(name, features, labels, priors) -> _Population:
    features, labels = jnp.asarray(features), np.asarray(labels)
    n = len(labels) if labels.ndim == 1 else 0
    whole = np.issubdtype(labels.dtype, np.integer)
    if not (n and whole and features.ndim == 2 and len(features) == n):
        raise UsageError(
            f"{name}: expected features [n, D] and int labels [n], got "
            f"{features.shape} and {labels.dtype} {labels.shape}"
        )
    traced = isinstance(features, core.Tracer)
    if not traced and not np.isfinite(np.asarray(features, np.float64)).all():
        raise UsageError(f"{name}: features must be finite, got NaN or inf")
    longest = 0.0 if traced else float(np.abs(np.asarray(features, np.float64)).max())
    if features.shape[1] * longest**2 > float(jnp.finfo(jnp.float32).max):
        raise UsageError(
            f"{name}: products of features up to {longest:.2g} are beyond float32; "
            "scale them"
        )
    if labels.min() < 0:
        raise UsageError(
            f"{name}: labels must be >= 0, got {labels.min()}; leave unlabelled rows "
            "(-1) out"
        )
    counts = np.bincount(labels)
    if len(counts) < 2 or not counts.all():
        raise UsageError(
            f"{name}: needs two classes or more and an example of each, got classes "
            f"{np.flatnonzero(counts).tolist()}"
        )
    shares = counts / n if priors is None else np.asarray(priors, np.float64)
    if shares.shape != counts.shape or not (shares > 0).all() or shares.sum() == np.inf:
        raise UsageError(
            f"{name}: priors must be [{len(counts)}], > 0 and finite, got {priors}"
        )
    order, first = np.argsort(labels, kind="stable"), np.cumsum(counts) - counts
    rows = order[first[:, None] + np.arange(counts.max()) % counts[:, None]]
    dtype = jnp.promote_types(jnp.float32, features.dtype)
    return _Population(
        features.astype(dtype), labels, shares / shares.sum(), rows, counts
    )

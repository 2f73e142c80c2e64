"""The information bottleneck of a finite joint distribution."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.special import xlogy

from rl_jax.errors import UsageError, checked


class Bottleneck(NamedTuple):
    """A solution of the self-consistent equations.

    Attributes:
      encoder: [X, T], p(t|x).
      rate: I(X;T) in nats.
      relevance: I(T;Y) in nats.
      residual: largest change of an entry of the encoder in the last iteration. At a
        saddle, such as the uniform encoder, it is small too.
    """

    encoder: chex.Array
    rate: chex.Array
    relevance: chex.Array
    residual: chex.Array


@checked
def discrete_bottleneck(
    joint: chex.Array,
    *,
    beta: chex.Numeric,
    num_codes: int | None = None,
    iterations: int = 3000,
    start: chex.Array | None = None,
) -> Bottleneck:
    """The bottleneck (Tishby, Pereira & Bialek 1999, arXiv:physics/0004057).

    A stationary point of I(X;T) − β I(T;Y) over p(t|x), T − X − Y a Markov chain, by
    iterating, in logarithms,

        p(t|x) ∝ p(t) exp(−β KL(p(y|x) ‖ p(y|t))),  p(t) = Σ_x p(x) p(t|x),
        p(y|t) = Σ_x p(y|x) p(x|t).

    The objective is not convex and each iteration lowers it: the start decides which
    stationary point is found. A uniform start (any whose rows are all equal) is one
    itself, of rate 0, and is never left. Near a critical β convergence is slow: read
    the residual. Work is done in float64 under `jax.enable_x64()`; in float32 the rate
    and the relevance of 32 × 32 cells are right to about 1e-5.

    Args:
      joint: [X, Y] weights ≥ 0 of the pairs, normalised here.
      beta: β > 0, a float or a scalar array. The solution has rate 0 for β ≤ 1, and up
        to the first critical β; 1/β is the slope of the curve.
      num_codes: T; None: X, which is always enough. With `start` it must be its width.
      iterations: how many, ≥ 1.
      start: [X, T], p(t|x) ≥ 0, rows normalised here. None: nine tenths on code
        ⌊xT/X⌋, the last tenth spread evenly.

    Returns:
      A `Bottleneck`.

    Raises:
      UsageError: weights or β that are negative or not finite, shapes that do not fit.
    """
    joint, start = _checked("discrete_bottleneck", joint, beta, num_codes, start)
    if iterations < 1:
        raise UsageError(
            f"discrete_bottleneck: iterations must be >= 1, got {iterations}"
        )
    return _solve(joint, jnp.asarray(beta, joint.dtype), start, iterations)


@checked
def discrete_curve(
    joint: chex.Array,
    *,
    betas: chex.Array,
    num_codes: int | None = None,
    iterations: int = 3000,
    start: chex.Array | None = None,
) -> Bottleneck:
    """`discrete_bottleneck` at several β, each from the same start.

    Args:
      joint, num_codes, iterations, start: as there.
      betas: [K], each > 0.

    Returns:
      A `Bottleneck` with a leading axis K: points (rate, relevance) of the information
      curve, concave, of slope 1/β.

    Raises:
      UsageError: as there, and for betas that are not [K].
    """
    joint, start = _checked("discrete_curve", joint, betas, num_codes, start)
    betas = jnp.asarray(betas, joint.dtype)
    if betas.ndim != 1:
        raise UsageError(f"discrete_curve: betas must be [K], got {betas.shape}")
    if iterations < 1:
        raise UsageError(f"discrete_curve: iterations must be >= 1, got {iterations}")
    return _solve_all(joint, betas, start, iterations)


@checked
def mutual_information(joint: chex.Array) -> chex.Array:
    """I(X;Y) = Σ p(x, y) log p(x, y) / p(x) p(y) of a finite joint distribution.

    Args:
      joint: [X, Y] weights ≥ 0, normalised here.

    Returns:
      Scalar in nats, in [0, log min(X, Y)].

    Raises:
      UsageError: for another rank, weights below 0, or none above.
    """
    shape = np.shape(joint)
    if len(shape) != 2 or 0 in shape:
        raise UsageError(
            f"mutual_information: joint must be [X, Y] and not empty, got {shape}"
        )
    if not isinstance(joint, Tracer):
        known = np.asarray(joint, np.float64)
        if not ((known >= 0).all() and 0 < known.sum() < np.inf):
            raise UsageError(
                "mutual_information: joint must hold finite weights >= 0 and one > 0, "
                f"got a least of {known.min():.3g} and a sum of {known.sum():.3g}"
            )
    p = jnp.asarray(joint, float)
    p = p / p.sum()
    independent = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    return (xlogy(p, p) - xlogy(p, independent)).sum()


@jax.jit
def _solve(joint, beta, start, iterations):
    tiny = jnp.finfo(joint.dtype).tiny
    joint = joint / joint.sum()
    p_x, p_y = joint.sum(1, keepdims=True), joint.sum(0, keepdims=True)
    # A row x that never occurs is given the marginal: it weighs nothing.
    y_x = jnp.where(p_x > 0, joint / jnp.where(p_x > 0, p_x, 1.0), p_y)
    log_x = jnp.log(p_x)

    def marginals(log_encoder):
        """Log p(t) [1, T] and p(y|t) [T, Y]."""
        log_joint = log_x + log_encoder
        log_t = jax.nn.logsumexp(log_joint, axis=0, keepdims=True)
        # A code that no x uses has no p(y|t); it stays unused.
        used = log_t > -jnp.inf
        log_posterior = jnp.where(used, log_joint - jnp.where(used, log_t, 0.0), log_x)
        return log_t, jnp.exp(log_posterior).T @ y_x

    def step(_, carry):
        log_encoder, _ = carry
        log_t, y_t = marginals(log_encoder)
        # −KL without Σ p(y|x) log p(y|x), which the normalisation takes out.
        fit = y_x @ jnp.log(jnp.maximum(y_t, tiny)).T
        new = jax.nn.log_softmax(log_t + beta * fit, axis=1)
        return new, jnp.max(jnp.abs(jnp.exp(new) - jnp.exp(log_encoder)))

    start = jnp.log(start / start.sum(1, keepdims=True))
    carry = start, jnp.zeros([], joint.dtype)
    log_encoder, residual = lax.fori_loop(0, iterations, step, carry)
    log_t, y_t = marginals(log_encoder)
    encoder = jnp.exp(log_encoder)
    gain = jnp.where(encoder > 0, encoder * (log_encoder - log_t), 0.0)
    information = (xlogy(y_t, y_t) - xlogy(y_t, p_y)).sum(1)
    return Bottleneck(
        encoder=encoder,
        rate=(p_x * gain).sum(),
        relevance=(jnp.exp(log_t[0]) * information).sum(),
        residual=residual,
    )


_solve_all = jax.jit(jax.vmap(_solve, in_axes=(None, 0, None, None)))


def _checked(name, joint, betas, num_codes, start):
    """`joint` and the start as floating arrays."""
    joint = jnp.asarray(joint, float)
    if joint.ndim != 2 or not joint.size:
        raise UsageError(f"{name}: joint must be [X, Y], got {joint.shape}")
    _check_weights(name, "joint", joint)
    if not isinstance(betas, Tracer) and not np.all(
        (np.asarray(betas) > 0) & (np.asarray(betas) < np.inf)
    ):
        raise UsageError(f"{name}: beta must be > 0 and finite, got {betas}")
    size = len(joint)
    if start is None:
        codes = size if num_codes is None else num_codes
        if codes < 1:
            raise UsageError(f"{name}: num_codes must be >= 1, got {num_codes}")
        own = jax.nn.one_hot(np.arange(size) * codes // size, codes, dtype=joint.dtype)
        return joint, 0.9 * own + 0.1 / codes
    start = jnp.asarray(start, joint.dtype)
    if start.ndim != 2 or start.shape != (size, num_codes or start.shape[1]):
        width = "T" if num_codes is None else num_codes
        raise UsageError(f"{name}: start must be [{size}, {width}], got {start.shape}")
    _check_weights(name, "start", start)
    return joint, start


def _check_weights(name, what, weights):
    if isinstance(weights, Tracer):
        return
    sums = weights.sum(1) if what == "start" else weights.sum()
    if not bool(jnp.all(weights >= 0) & jnp.all((sums > 0) & (sums < jnp.inf))):
        raise UsageError(
            f"{name}: {what} must be finite, >= 0 and not all zero; check its entries"
        )

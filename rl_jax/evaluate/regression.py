"""Multinomial logistic regression by L-BFGS, many problems in one computation."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import core

from rl_jax.errors import UsageError, checked, known
from rl_jax.evaluate import arguments
from rl_jax.evaluate.blocks import device_rows, sum_over_rows

# Norm of the preconditioned gradient at which a problem is solved, in units of √l2.
# With h the largest curvature of a coordinate, the objective is then within
# tolerance²·h/2 of its minimum, whatever l2 is.
_TOLERANCE = 1e-3
_MEMORY = 5


@checked
def logistic(
    features: chex.Array,
    labels: chex.Array,
    *,
    num_classes: int,
    l2: float,
    weights: chex.Array | None = None,
    steps: int = 500,
) -> tuple[chex.Array, chex.Array]:
    """Multinomial logistic regression by L-BFGS (Liu & Nocedal 1989, through optax).

    Minimises Σ_i w_i·CE(x_i W + b, y_i) / Σ_i w_i + l2/2·‖W‖², with the bias free. It
    stops by the norm of the gradient; probabilities are then exact to about 1e-3.

    Args:
      features: [n, D] of any float dtype, as they are: standardise them first.
      labels: int [n] in [0, num_classes). A class without examples gets a probability
        near 0.
      num_classes: C.
      l2: > 0; scikit-learn's C is 1 / (n·l2).
      weights: [n] of the examples, >= 0, or [P, n] for P problems over the same
        examples, which cost far less than P calls. None: all ones.
      steps: the most L-BFGS steps.

    Returns:
      `(W, b)`, float32 [D, C] and [C]; with weights [P, n], [P, D, C] and [P, C].
      Constant features have W = 0.

    Raises:
      UsageError: shapes that do not fit together, features that are not finite,
        weights < 0, l2 <= 0 or a label out of range.
    """
    _check(features, labels, num_classes, l2, weights)
    if weights is None:
        w = jnp.ones_like(labels, jnp.float32)
    else:
        w = jnp.asarray(weights)
    several = w.ndim == 2
    path = logistic_path(
        jnp.asarray(features)[None],
        jnp.asarray(labels)[None],
        w[None] if several else w[None, None],
        jnp.asarray(l2, jnp.float32)[None],
        num_classes=num_classes,
        steps=steps,
    )
    w, b = path.weights[0, 0], path.bias[0, 0]
    return (w, b) if several else (w[0], b[0])


class Path(NamedTuple):
    """Solutions for every l2 of a path, of P problems in each of B groups.

    Attributes:
      weights: [L, B, P, D, C].
      bias: [L, B, P, C].
      held_out: [L, B, P], mean cross-entropy of the examples of weight zero; 0 where
        there are none.
      steps: int32 [L], L-BFGS steps taken.
    """

    weights: chex.Array
    bias: chex.Array
    held_out: chex.Array
    steps: chex.Array


@functools.partial(jax.jit, static_argnames=("num_classes", "steps"))
def logistic_path(
    features: chex.Array,
    labels: chex.Array,
    weights: chex.Array,
    l2: chex.Array,
    *,
    num_classes: int,
    counted: chex.Array | None = None,
    steps: int = 500,
) -> Path:
    """`logistic` for B sets of examples, P weightings of each, and a path of l2.

    Independent problems are minimised as one, their sum, by one L-BFGS with one line
    search: under `vmap` both branches of every condition of the search would run, and
    all problems would wait for the slowest search. Each l2 starts from the solution of
    the one before. Coordinates are scaled by the diagonal of the Hessian there, which
    in decorrelated features (see `linear_probe`) is nearly all of it.

    Value and gradient come from one pass over blocks of examples, whose logits take at
    most `blocks.DEVICE_BYTES`: of [n, P, C] nothing is ever whole.

    Args:
      features: [B, n, D].
      labels: int [B, n] in [0, num_classes).
      weights: [B, P, n], >= 0, with a positive sum over n.
      l2: [L], or [L, B] for each set its own, > 0; from large to small is fastest.
      num_classes: C.
      counted: [B, n], which examples `held_out` counts; None: all.
      steps: the most L-BFGS steps for each l2.

    Returns:
      A `Path`.
    """
    x = features.astype(jnp.float32)
    groups, n, dim = x.shape
    centre = x.mean(1)
    w = weights.astype(jnp.float32).transpose(0, 2, 1)  # [B, n, P]
    held = (w == 0).astype(jnp.float32)
    if counted is not None:
        held = held * counted[:, :, None]
    w = w / w.sum(1, keepdims=True)
    held = held / jnp.maximum(held.sum(1, keepdims=True), 1.0)
    problems = w.shape[2]
    penalised = jnp.ones(dim + 1).at[-1].set(0.0).reshape(1, dim + 1, 1, 1)
    l2 = jnp.broadcast_to(l2.reshape(len(l2), -1), (len(l2), groups))
    rows = device_rows(groups * problems * num_classes)

    def total(of, weights):
        """The sum over blocks of `of(x [B, b, D + 1], one-hot, weights [B, b, P])`."""

        def block(cut, new):
            affine = _affine(cut(x, axis=1), centre)
            target = jax.nn.one_hot(cut(labels, axis=1), num_classes)[:, :, None]
            counts = new[None, :, None] * cut(weights, axis=1)
            return of(affine, target, counts)

        return sum_over_rows(block, n, rows)

    def mean_loss(weights, a):
        """[B, P], for weights that sum to 1."""

        def block(x, target, weights):
            return (weights * _losses(_logits(x, a), target)).sum(1)

        return total(block, weights)

    def loss_and_slope(a):
        """Of the examples in training: [B, P] and, by a, [B, D + 1, P, C]."""

        def block(x, target, w):
            z = _logits(x, a)
            slope = w[..., None] * (jax.nn.softmax(z) - target)
            loss = (w * _losses(z, target)).sum(1)
            return loss, jnp.einsum("bnd,bnpc->bdpc", x, slope)

        return total(block, w)

    def curvature(a):
        def block(x, _, w):
            p = jax.nn.softmax(_logits(x, a))
            return jnp.einsum("bnd,bnpc->bdpc", x * x, w[..., None] * p * (1 - p))

        return total(block, w)

    def solve(a, l2):
        penalty = l2.reshape(groups, 1, 1, 1) * penalised
        # The bias of a class that no example has is pulled to −∞ by nothing curved.
        scale = jax.lax.rsqrt(curvature(a) + jnp.where(penalised > 0, penalty, 1e-6))

        @jax.custom_vjp
        def objective(v):
            return with_gradient(v)[0]

        def with_gradient(v):
            a = v * scale
            loss, slope = loss_and_slope(a)
            value = loss.sum() + (penalty * a * a).sum() / 2
            return value, scale * (slope + penalty * a)

        objective.defvjp(with_gradient, lambda gradient, g: (g * gradient,))
        tolerance = _TOLERANCE * jnp.sqrt(l2)[:, None]
        v, taken = _minimise(objective, a / scale, tolerance, steps)
        a = v * scale
        weights, bias = a[:, :-1], a[:, -1]
        bias = bias - jnp.einsum("bd,bdpc->bpc", centre, weights)
        return a, Path(weights.transpose(0, 2, 1, 3), bias, mean_loss(held, a), taken)

    # Zero, but not as a constant: XLA on CPU (seen in jax 0.10.2 and 0.12.0) returns
    # uninitialised memory for a sum over the product of an array and constant zeros.
    start = jnp.zeros((groups, dim + 1, problems, num_classes))
    start = start + 0.0 * _affine(x[:, :1], centre).reshape(groups, dim + 1, 1, 1)
    return jax.lax.scan(solve, start, l2)[1]


def _affine(x, centre):
    """[B, b, D] around the centre, and ones for the bias."""
    return jnp.pad(x - centre[:, None], ((0, 0), (0, 0), (0, 1)), constant_values=1.0)


def _logits(x, a):
    return jnp.einsum("bnd,bdpc->bnpc", x, a)


def _losses(logits, target):
    """Cross-entropies [B, b, P]."""
    return jax.nn.logsumexp(logits, -1) - (logits * target).sum(-1)


def _minimise(objective, v, tolerance, steps):
    """L-BFGS until each problem's gradient is below tolerance: `(v, steps taken)`."""
    search = optax.scale_by_zoom_linesearch(15, initial_guess_strategy="one")
    optimizer = optax.lbfgs(memory_size=_MEMORY, linesearch=search)

    def unsolved(carry):
        _, _, grad, _, taken = carry
        norm = jnp.sqrt((grad * grad).sum((1, 3)))  # of each problem
        return (norm > tolerance).any() & (taken < steps)

    def step(carry):
        v, value, grad, state, taken = carry
        updates, state = optimizer.update(
            grad, state, v, value=value, grad=grad, value_fn=objective
        )
        # The line search has evaluated the point it chose.
        value, grad = (optax.tree.get(state, name) for name in ("value", "grad"))
        return optax.apply_updates(v, updates), value, grad, state, taken + 1

    value, grad = jax.value_and_grad(objective)(v)
    carry = (v, value, grad, optimizer.init(v), jnp.zeros([], jnp.int32))
    v, _, _, _, taken = jax.lax.while_loop(unsolved, step, carry)
    return v, taken


def _check(features, labels, num_classes, l2, weights):
    n = features.shape[0]
    if features.ndim != 2 or labels.shape != (n,):
        raise UsageError(
            "logistic: expected features [n, D] and labels [n], got "
            f"{features.shape} and {labels.shape}"
        )
    if weights is not None and (weights.ndim > 2 or weights.shape[-1:] != (n,)):
        raise UsageError(
            f"logistic: weights must be [{n}] or [P, {n}], got {weights.shape}"
        )
    number = known(l2)
    if number is not None and not number > 0:
        raise UsageError(f"logistic: l2 must be > 0, got {l2}")
    if not isinstance(features, core.Tracer):
        arguments.features("logistic", features=features)
    if weights is not None and not isinstance(weights, core.Tracer):
        total = np.asarray(weights, np.float64)
        if not ((total >= 0).all() and (total.sum(-1) > 0).all()):
            raise UsageError(
                "logistic: weights must be >= 0 with a positive sum, got "
                f"{total.min()} .. {total.max()}"
            )
    if isinstance(labels, core.Tracer):
        return
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(f"logistic: labels must be int, got {labels.dtype}")
    low, high = int(np.min(labels)), int(np.max(labels))
    if low < 0 or high >= num_classes:
        raise UsageError(
            f"logistic: labels must be in [0, {num_classes}), got {low} .. {high}"
        )

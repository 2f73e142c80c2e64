"""The information bottleneck of a bit seen through a noisy channel, NumPy float64."""

import chex
import numpy as np
from scipy.special import xlog1py, xlogy

from rl_jax.errors import UsageError, checked

_STEPS = 100


@checked
def binary_relevance(rate: chex.Array, *, flip: float) -> np.ndarray:
    """Most that a code tells of a flipped bit (Wyner & Ziv 1973, IEEE Trans. IT 19).

    X a fair bit, Y = X flipped with probability ε. The best code T is X flipped with
    some probability δ: I(T;Y) = log 2 − h(δ(1 − ε) + (1 − δ)ε) where
    I(X;T) = log 2 − h(δ), h the entropy of a coin. Concave in the rate.

    Args:
      rate: I(X;T) in nats, in [0, log 2], any shape.
      flip: ε in (0, ½).

    Returns:
      float64 of that shape, in nats, at most log 2 − h(ε).

    Raises:
      UsageError: for a rate or ε out of range.
    """
    rate = np.asarray(rate, np.float64)
    _check(flip)
    if not np.all((rate >= -1e-9) & (rate <= np.log(2) + 1e-9)):
        raise UsageError(
            f"binary_relevance: rate must be in [0, log 2] nat, got {rate.min():.4g} "
            f"to {rate.max():.4g}"
        )
    delta = _bisected(lambda d: np.log(2) - coin_entropy(d) > rate, rate.shape)
    return np.log(2) - coin_entropy(_both(delta, flip))


@checked
def binary_rate(beta: chex.Array, *, flip: float) -> np.ndarray:
    """Rate of the best code of a bit at a β, where its curve has the slope 1/β.

    0 up to the critical β = 1/(1 − 2ε)², the slope at rate 0 being (1 − 2ε)².

    Args:
      beta: β > 0 of I(X;T) − β I(T;Y), any shape.
      flip: ε in (0, ½), as in `binary_relevance`.

    Returns:
      float64 of that shape, I(X;T) in nats.

    Raises:
      UsageError: for β ≤ 0, or ε out of range.
    """
    beta = np.asarray(beta, np.float64)
    _check(flip)
    if not np.all(beta > 0):
        raise UsageError(f"binary_rate: beta must be > 0, got {beta.min():.4g}")

    def steeper(delta):
        def logit(p):
            return np.log1p(-p) - np.log(p)

        slope = (1 - 2 * flip) * logit(_both(delta, flip)) / logit(delta)
        return slope < 1 / beta

    delta = _bisected(steeper, beta.shape)
    return np.maximum(np.log(2) - coin_entropy(delta), 0.0)


@checked
def coin_entropy(p: chex.Array) -> np.ndarray:
    """Entropy of a coin in nats: h(p) = −p log p − (1 − p) log(1 − p).

    Args:
      p: probabilities in [0, 1], any shape.

    Returns:
      float64 of that shape, in [0, log 2].
    """
    p = np.asarray(p, np.float64)
    return -xlogy(p, p) - xlog1py(1 - p, -p)


def _bisected(raises, shape) -> np.ndarray:
    """The δ in (0, ½) up to which `raises(δ)` holds."""
    low, high = np.full(shape, 1e-12), np.full(shape, 0.5 - 1e-9)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        more = raises(middle)
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return (low + high) / 2


def _both(delta, flip):
    """Flip probability of two channels one after the other."""
    return delta * (1 - flip) + (1 - delta) * flip


def _check(flip: float) -> None:
    if not 0 < flip < 0.5:
        raise UsageError(f"binary bottleneck: flip must be inside (0, 0.5), got {flip}")

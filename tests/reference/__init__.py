"""Plain NumPy float64 of every formula, written independently of the library."""

import jax
import numpy as np


def assert_close(actual, expected, *, tolerance, floor=0.0):
    """Every leaf within tolerance times the largest entry of the expected leaf.

    floor: the smallest size that counts as the largest entry, for leaves that are
    zero up to rounding.
    """
    leaves, targets = jax.tree.leaves(actual), jax.tree.leaves_with_path(expected)
    assert len(leaves) == len(targets)
    for leaf, (path, target) in zip(leaves, targets, strict=True):
        leaf, target = np.asarray(leaf, np.float64), np.asarray(target, np.float64)
        name = jax.tree_util.keystr(path)
        assert leaf.shape == target.shape, (name, leaf.shape, target.shape)
        # Equal infinities are right answers, and their difference is not a number.
        with np.errstate(invalid="ignore"):
            error = np.max(np.where(leaf == target, 0.0, np.abs(leaf - target)))
        finite = np.abs(target[np.isfinite(target)])
        size = max(np.max(finite, initial=0.0), floor)
        assert error <= tolerance * size, f"{name}: {error} > {tolerance} * {size}"


def central_differences(function, *args, step=1e-6):
    """The gradients of a float64 function of arrays, one for each argument."""
    gradients = []
    for i, arg in enumerate(args):
        arg = np.asarray(arg, np.float64)
        gradient = np.zeros_like(arg)
        for index in np.ndindex(arg.shape):
            nudge = np.zeros_like(arg)
            nudge[index] = step
            above = function(*args[:i], arg + nudge, *args[i + 1 :])
            below = function(*args[:i], arg - nudge, *args[i + 1 :])
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return tuple(gradients)

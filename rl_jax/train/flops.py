"""How many floating-point operations a traced function takes, from its jaxpr.

XLA's own count (`compiled.cost_analysis()`) takes the body of a loop once, whatever its
length, so that a loss streamed in tiles nearly vanishes. Here only matrix products and
convolutions are counted, each multiply and each add, exactly and alike on every device.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core


class Flops(NamedTuple):
    """Operations of the products of a function, over all devices.

    Attributes:
      by_dtype: operations for each dtype of the operands.
      open_loops: loops with products in them whose length is not known before they run;
        their bodies are counted once.
    """

    by_dtype: dict[str, int]
    open_loops: int

    @property
    def total(self) -> int:
        """Of all dtypes together."""
        return sum(self.by_dtype.values())

    def times(self, count: int) -> "Flops":
        """The same work `count` times."""
        return self._replace(by_dtype={d: n * count for d, n in self.by_dtype.items()})

    def over(self, count: int) -> "Flops":
        """One of `count` equal parts of the work."""
        return self._replace(by_dtype={d: n // count for d, n in self.by_dtype.items()})

    def plus(self, other: "Flops") -> "Flops":
        """The work of both."""
        mine, its = self.by_dtype, other.by_dtype
        both = {d: mine.get(d, 0) + its.get(d, 0) for d in [*mine, *its]}
        return Flops(both, self.open_loops + other.open_loops)


NOTHING = Flops({}, 0)


def count_flops(jaxpr: core.ClosedJaxpr | core.Jaxpr) -> Flops:
    """Floating-point operations of the products in a traced function.

    A product of [M, K] and [K, N] takes 2·M·K·N. A convolution takes two operations for
    each pair of an input and a kernel element that meet; padding and the zeros between
    the elements of a dilated input meet nothing, so the two gradients of a convolution
    take exactly what it takes itself. A scan counts its body `length` times, a `cond`
    its most expensive branch, a `shard_map` its body on every device. Everything
    elementwise, sorting and the factorisations of linear algebra count nothing; a
    product whose result nobody uses counts all the same.

    Args:
      jaxpr: `jax.jit(f).trace(*args).jaxpr` or `jax.make_jaxpr(f)(*args)`.
    """
    if isinstance(jaxpr, core.ClosedJaxpr):
        jaxpr = jaxpr.jaxpr
    total = NOTHING
    for eqn in jaxpr.eqns:
        total = total.plus(_of_equation(eqn))
    return total


def _of_equation(eqn: core.JaxprEqn) -> Flops:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        return _product(eqn, _dot_general(eqn))
    if name == "conv_general_dilated":
        return _product(eqn, _convolution(eqn))
    if name == "cond":
        return max(map(count_flops, params["branches"]), key=lambda f: f.total)
    inside = NOTHING
    for jaxpr in _jaxprs(params):
        inside = inside.plus(count_flops(jaxpr))
    if name == "scan":
        return inside.times(params["length"])
    if name == "while" and inside.total:
        return inside._replace(open_loops=inside.open_loops + 1)
    if name == "shard_map":
        sizes = params["mesh"].shape
        axes = params["newly_manual_axes"]
        return inside.times(math.prod(sizes[axis] for axis in axes))
    return inside


def _jaxprs(params: dict[str, Any]) -> Iterator[core.ClosedJaxpr | core.Jaxpr]:
    for value in params.values():
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
            yield value


def _product(eqn: core.JaxprEqn, count: int) -> Flops:
    return Flops({str(eqn.invars[0].aval.dtype): count}, 0)


def _dot_general(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    shape = eqn.invars[0].aval.shape
    pairs = math.prod(shape[d] for d in contracted)
    return 2 * pairs * math.prod(eqn.outvars[0].aval.shape)


def _convolution(eqn: core.JaxprEqn) -> int:
    p = eqn.params
    numbers = p["dimension_numbers"]
    left, right = (v.aval.shape for v in eqn.invars)
    out = eqn.outvars[0].aval.shape
    out_batch, out_features, *out_space = (out[d] for d in numbers.out_spec)
    _, in_features, *kernel = (right[d] for d in numbers.rhs_spec)
    space = [left[d] for d in numbers.lhs_spec[2:]]
    meeting = math.prod(
        _meeting(*sizes)
        for sizes in zip(
            out_space,
            kernel,
            space,
            p["window_strides"],
            p["padding"],
            p["lhs_dilation"],
            p["rhs_dilation"],
            strict=True,
        )
    )
    return 2 * out_batch * out_features * in_features * meeting


def _meeting(out, kernel, size, stride, padding, left_dilation, right_dilation) -> int:
    """Along one axis: pairs of an output and a kernel position on an input element."""
    place = np.arange(out)[:, None] * stride - padding[0]
    place = place + np.arange(kernel)[None] * right_dilation
    inside = (place >= 0) & (place <= (size - 1) * left_dilation)
    return int(np.sum(inside & (place % left_dilation == 0)))

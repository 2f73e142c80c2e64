"""One all-pairs reduction with its own derivative: what the public functions share."""

import functools
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rl_jax.errors import UsageError
from rl_jax.pairwise import dense, mosaic_gpu, reductions, sharded, tiles
from rl_jax.pairwise.streaming import Cotangents, Gradients, Operands, Plan

Implementation = Literal["dense", "xla", "ring", "mosaic_gpu"]


class Config(NamedTuple):
    """The static part of one call.

    Attributes:
      plan: how to cut the work; its kind is "exp" where the shift is still to be found.
      ring: on several devices, pass rows around, gather them, or (None) choose.
      every: add up all rows too, and make the gradient together with the value.
      safe: whether a constant shift is, where that is known before tracing; the shift
        then stands in the place of the largest norm.
    """

    plan: Plan
    ring: bool | None
    every: bool = False
    safe: bool | None = None


def reduce(
    name: str,
    x: chex.Array,
    y: chex.Array | None,
    *,
    kind: reductions.Kind,
    scale: chex.Numeric,
    offset: chex.Numeric | None = None,
    valid: chex.Numeric | None,
    exclude: chex.Array | None,
    group: chex.Array | None,
    both: bool = False,
    every: bool = False,
    precision: tiles.Precision | None,
    block_size: int | None,
    implementation: Implementation | None,
    max_norm: chex.Numeric | None = None,
):
    """Checks the arguments and reduces; see `logsumexp` and `sigmoid` for them.

    Raises:
      UsageError: for shapes, dtypes or options that do not fit together.
    """
    check_rows(
        name,
        x,
        y,
        precision=precision,
        block_size=block_size,
        implementation=implementation,
    )
    _check_columns(name, x, y, valid, exclude, group, max_norm)
    bias = None
    if valid is not None:
        assert y is not None
        keep = jnp.arange(len(y)) < valid
        y = jnp.where(keep[:, None], y, jnp.zeros_like(y))
        bias = jnp.where(keep, 0.0, -jnp.inf)
    if exclude is not None:
        exclude = jnp.asarray(exclude, jnp.int32)
    factor = _scalar(name, "scale", scale)
    if offset is not None:
        offset = _scalar(name, "bias", offset)
    given = Operands(x, y, factor, offset, None, bias, exclude, group)
    if implementation == "dense":
        found = dense.values(given, kind=kind, both=both, precision=precision)
        return found.sum() if every else found
    ring = None if implementation is None else implementation == "ring"
    sharded.check(name, x, y, ring)
    kernels = None if implementation is None else implementation == "mosaic_gpu"
    sizes = _block_sizes(x, y, block_size, ring)
    shape = len(x), len(x if y is None else y)
    whole = sharded.devices() == 1 and sizes[0] >= shape[0] and sizes[1] >= shape[1]
    plan = Plan(kind, *sizes, precision, both=both, kernels=kernels)
    if kernels:
        _check_kernels(name, plan, given, ring)
    keep = whole and not every and not sharded.uses_kernels(plan, given, ring)
    plan = plan._replace(keep=keep)
    if isinstance(max_norm, int | float) and isinstance(scale, int | float):
        bound = abs(float(scale)) * float(max_norm) ** 2
        # The value is no part of what is compiled: it may be another at each call.
        norm, safe = reductions.safe_shift(bound, max(shape))
    else:
        norm, safe = max_norm, None
    norm = None if norm is None else _scalar(name, "max_norm", norm)
    given, norm = tiles.varying((given, norm))
    return _compiled(Config(plan, ring, every, safe), given, norm)


def _block_sizes(x, y, asked: int | None, ring: bool | None) -> list[int]:
    """Rows of a tile on either side, from the rows that a device cuts."""
    count = sharded.devices()
    passed, shared = sharded.ways(x, y, ring) if count > 1 else (False, True)
    sizes = []
    for v, mine in ((x, True), (x if y is None else y, shared)):
        rows = len(v) // count if mine else len(v)
        size = tiles.block_size_for(rows, jax.default_backend())
        if passed:
            # Who passes rows on does so for memory: a tile of a quarter of the size.
            size = -(-size // 2)
        sizes.append(max(1, min(asked or size, rows)))
    return sizes


class Shift(NamedTuple):
    """A constant shift, and whether it is safe: no array where that is known."""

    value: chex.Array
    safe: bool | chex.Array


def _shift(config: Config, given: Operands, norm) -> Shift:
    x, y = given.x, given.y
    columns = max(len(x), len(x if y is None else y))
    if config.safe is not None:
        return Shift(norm, config.safe)
    if norm is not None:
        square = jnp.square(norm)
    else:
        square = _max_square(x)
        square = square if y is None else jnp.sqrt(square * _max_square(y))
    bound = lax.stop_gradient(jnp.abs(given.scale) * square)
    return Shift(*reductions.safe_shift(bound, columns))


def _choose(config: Config, given: Operands, shift: Shift, run):
    """`run(plan, operands)` with the constant shift where that is safe.

    The choice is made on the device where it depends on values; nothing is read back.
    """
    plan = config.plan
    if plan.kind != "exp":
        return run(plan, given)

    def constant():
        return run(plan, given._replace(shift=shift.value))

    def running():
        return run(plan._replace(kind="running_exp"), given)

    if isinstance(shift.safe, bool):
        return constant() if shift.safe else running()
    return lax.cond(shift.safe, constant, running)


def _max_square(x):
    return jnp.max(jnp.sum(jnp.square(x.astype(jnp.float32)), axis=1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reduce(config: Config, given: Operands, norm: chex.Array | None):
    return _results(config, _sums(config, given, _shift(config, given, norm))[0])


def _sums(config: Config, given: Operands, shift: Shift):
    def run(plan, given):
        return sharded.sums(plan, given, use_ring=config.ring)

    return _choose(config, given, shift, run)


def _results(config: Config, sums):
    # Shifted or running, sums of exponentials have one form.
    result = reductions.of(config.plan.kind, 0.0).result
    if config.plan.both:
        return tuple(map(result, sums))
    return result(sums).sum() if config.every else result(sums)


def _forward(config, given, norm):
    primals, norm = jax.tree.map(lambda primal: primal.value, (given, norm))
    with_y = given.y is not None and given.y.perturbed
    if config.every:
        return _at_once(config, primals, with_y)
    shift = _shift(config, primals, norm)
    sums, kept = _sums(config, primals, shift)
    # In a shape: JAX keeps the structure of residuals of the last trace alone.
    with_y = jnp.zeros(int(with_y), jnp.float32)
    # Only arrays are kept.
    found = shift if config.safe is None else shift.value
    return _results(config, sums), (primals, found, sums, kept, with_y)


def _at_once(config: Config, given: Operands, with_y: bool):
    """The sum over all pairs, and its gradients for a cotangent of one."""
    plan = config.plan._replace(
        with_y=with_y, with_total=given.offset is not None, with_value=True
    )
    one = jnp.ones(len(given.x), jnp.float32)
    bars = Cotangents(((one,), one), None)
    found = sharded.gradients(plan, given, bars, use_ring=config.ring)
    # Of what they are to be cast to the dtype alone is kept.
    empty = jax.tree.map(lambda v: jnp.zeros(0, v.dtype), (given.x, given.y))
    of = _of_operands(given, found)
    if given.y is not None and of.y is None:
        of = of._replace(y=jnp.zeros(0, jnp.float32))
    return found.value, (of, empty)


def _of_operands(given: Operands, found: Gradients) -> Operands:
    """Float32 gradients by x, y, scale and offset."""
    # Σ_ij g_i p_ij ⟨x_i, y_j⟩ = ⟨x, dx⟩; self pairs appear in both of their rows.
    dscale = jnp.sum(given.x.astype(jnp.float32) * found.x)
    dscale = dscale / 2 if given.y is None else dscale
    dy = None if found.y is None else given.scale * found.y
    rest = None, None, None, None
    return Operands(given.scale * found.x, dy, dscale, found.total, *rest)


def _scaled(size, gradients: Operands, like) -> Operands:
    gradients = jax.tree.map(lambda g: size * g, gradients)
    x, y = (
        None if g is None else g.astype(v.dtype)
        for g, v in zip(gradients[:2], like, strict=True)
    )
    return gradients._replace(x=x, y=y)


def _backward(config, residuals, cotangents):
    if config.every:
        out, like = residuals
        if out.y is not None and not out.y.size:
            out = out._replace(y=None)
        return _scaled(_instantiate(cotangents), out, like), None
    given, shift, sums, kept, with_y = residuals
    # Not found again: the sums were made with this very one.
    shift = shift if config.safe is None else Shift(shift, config.safe)
    cotangents = jax.tree.map(_instantiate, cotangents)
    # Weights are formed for cotangents of size one, which keeps them in range.
    sizes = [jnp.max(jnp.abs(g)) for g in jax.tree.leaves(cotangents)]
    size = lax.stop_gradient(functools.reduce(jnp.maximum, sizes))
    unit = jax.tree.map(lambda g: g / jnp.where(size > 0, size, 1.0), cotangents)
    if config.plan.both:
        bars = Cotangents((sums[0], unit[0]), (sums[1], unit[1]))
    else:
        bars = Cotangents((sums, unit), None)

    def run(plan, given):
        plan = plan._replace(
            with_y=with_y.size > 0, with_total=given.offset is not None
        )
        return sharded.gradients(plan, given, bars, kept, use_ring=config.ring)

    found = _choose(config, given, shift, run)
    return _scaled(size, _of_operands(given, found), (given.x, given.y)), None


def _instantiate(g):
    """A cotangent as an array, also where nothing depends on the output."""
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(g.shape, g.dtype)
    return g


_reduce.defvjp(_forward, _backward, symbolic_zeros=True)
# Compiled once for each shape, also where the caller has no jit.
_compiled = jax.jit(_reduce, static_argnums=0)


def _scalar(name: str, what: str, value: chex.Numeric) -> chex.Array:
    value = jnp.asarray(value, jnp.float32)
    if value.ndim:
        raise UsageError(f"{name}: {what} must be a scalar, got shape {value.shape}")
    return value


def _check_columns(name, x, y, valid, exclude, group, max_norm):
    if y is None and (valid is not None or exclude is not None):
        raise UsageError(f"{name}: valid and exclude need y; self pairs take neither")
    if group is not None and exclude is None:
        raise UsageError(
            f"{name}: group names columns for exclude, which was not given"
        )
    for what, value, shape in (
        ("valid", valid, ()),
        ("exclude", exclude, (len(x),)),
        ("group", group, (len(x if y is None else y),)),
    ):
        if value is None:
            continue
        whole = jnp.issubdtype(jnp.result_type(value), jnp.integer)
        if not whole or jnp.shape(value) != shape:
            raise UsageError(
                f"{name}: {what} must be of an int dtype and shape {shape}, got "
                f"{jnp.result_type(value)} and {jnp.shape(value)}"
            )
    if isinstance(max_norm, int | float) and not max_norm > 0:
        raise UsageError(f"{name}: max_norm must be > 0, got {max_norm}")


def _check_kernels(name: str, plan: Plan, given: Operands, ring: bool | None) -> None:
    """Refuses what was asked of the kernels and they cannot do."""
    reason = sharded.no_kernels(plan, given, ring)
    reason = reason or mosaic_gpu.available(plan.kind)
    if reason is not None:
        raise UsageError(
            f"{name}: implementation='mosaic_gpu' cannot do this: {reason}; use None, "
            "which takes the kernels where they can, or 'xla'"
        )


def check_rows(
    name: str,
    x: chex.Array,
    y: chex.Array | None,
    *,
    precision: str | None = None,
    block_size: int | None = None,
    implementation: str | None = None,
) -> None:
    """Refuses rows or options that no reduction over pairs can take.

    Raises:
      UsageError: naming what was given and what is expected.
    """
    other = x if y is None else y
    got = f"x {x.shape}" + ("" if y is None else f" and y {y.shape}")
    if x.ndim != 2 or other.ndim != 2 or other.shape[1] != x.shape[1]:
        raise UsageError(f"{name}: expected x [N, D] and y [M, D], got {got}")
    if not len(x) or not len(other):
        raise UsageError(f"{name}: there must be at least one row, got {got}")
    if other.dtype != x.dtype:
        raise UsageError(
            f"{name}: x and y must have one dtype, got {x.dtype} and {other.dtype}"
        )
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        raise UsageError(f"{name}: expected float32 or bfloat16, got {x.dtype}")
    for value, known, what in (
        (precision, (None, "bf16", "bf16x3", "highest"), "precision"),
        (
            implementation,
            (None, "dense", "xla", "ring", "mosaic_gpu"),
            "implementation",
        ),
    ):
        if value not in known:
            raise UsageError(f"{name}: {what} must be one of {known}, got {value!r}")
    if block_size is not None and block_size < 1:
        raise UsageError(f"{name}: block_size must be at least 1, got {block_size}")

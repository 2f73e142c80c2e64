"""Linear CKA: how alike two representations of the same examples are."""

from collections.abc import Sequence

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import arguments
from rl_jax.evaluate.hsic import Terms, batch_terms, biased, linear_terms, unbiased

_ROWS = 1024
_LOST = 1e-6
"""Below this share of the terms that cancel in it, an unbiased HSIC is rounding."""


@checked
def linear_cka(
    x: chex.Array,
    y: chex.Array,
    *,
    debiased: bool = False,
    block_size: int | None = None,
) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414).

    ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, columns centred: the HSIC of x and y
    over the geometric mean of each with itself. Rotations, shifts and isotropic scaling
    of either change nothing, other linear maps do. Where D is not small against n, the
    biased form is near 1 whatever the features are; the debiased one has the HSIC of
    Song et al. 2012 (JMLR 13), whose mean is 0 for independent features.

    Args:
      x, y: [n, D] and [n, E] of the same n ≥ 4 examples, rounded to float32.
      debiased: which HSIC.
      block_size: rows that are read at once; None: 1,024. Memory is D·E + D² + E².

    Returns:
      In [0, 1]; debiased at most 1 and, around 0, of either sign.

    Raises:
      UsageError: for shapes that do not fit together, fewer than 4 rows, NaN, constant
        features, or features whose unbiased HSIC is zero.
    """
    layers = {"x": x, "y": y}
    return float(_map("linear_cka", layers, 1, debiased, block_size)[0, 0])


@checked
def cka_map(
    layers_a: Sequence[chex.Array],
    layers_b: Sequence[chex.Array] | None = None,
    *,
    debiased: bool = False,
    block_size: int | None = None,
) -> np.ndarray:
    """`linear_cka` of each layer with each, in one pass over the rows.

    Every row is read once. A block of them adds its products to ΣD_a × ΣD_b sums; a
    matrix of the rows is never formed. The layers may as well be checkpoints.

    Args:
      layers_a: La arrays [n, D_l] of the same n ≥ 4 examples, rounded to float32. Only
        slices of rows are taken of them, so they may be memory-mapped.
      layers_b: Lb arrays; None: those of `layers_a`.
      debiased, block_size: see `linear_cka`.

    Returns:
      float64 [La, Lb].

    Raises:
      UsageError: as `linear_cka`, with the place of the layer; or without layers.
    """
    layers = {f"layers_a[{i}]": x for i, x in enumerate(layers_a)}
    count = len(layers)
    layers |= {f"layers_b[{i}]": x for i, x in enumerate(layers_b or ())}
    if not count or (layers_b is not None and len(layers) == count):
        raise UsageError("cka_map: there must be at least one layer on each side")
    return _map("cka_map", layers, count, debiased, block_size)


@checked
def minibatch_cka(x: chex.Array, y: chex.Array, *, batch_size: int = 256) -> float:
    """Linear CKA from minibatches (Nguyen, Raghu & Kornblith 2021, arXiv:2010.15327).

    Unbiased HSICs are averaged over the batches before their ratio is taken, so the
    batch size hardly matters. Memory is batch_size², never D²: for features that are
    wider than that.

    Args:
      x, y: [n, D] and [n, E] of the same examples in random order, rounded to float32;
        they may be memory-mapped.
      batch_size: of consecutive rows, in [4, n]; those that do not fill a batch are
        left out.

    Returns:
      At most 1; around 0 of either sign.

    Raises:
      UsageError: as `linear_cka`, or for a batch size out of range.
    """
    x, y = _sliced(x), _sliced(y)
    n = arguments.same_rows("minibatch_cka", least=4, x=x, y=y)
    if not 4 <= batch_size <= n:
        raise UsageError(
            f"minibatch_cka: batch_size must be in [4, {n}], got {batch_size}"
        )
    terms = batch_terms(x, y, size=batch_size)
    hsic = unbiased(terms, batch_size).mean(0)
    own = Terms(*(v.mean(0).diagonal() for v in terms))
    _check_own("minibatch_cka", ["x", "y"], own, hsic.diagonal())
    return float(hsic[0, 1] / np.sqrt(hsic[0, 0] * hsic[1, 1]))


def _map(name, layers, count, debiased, block_size):
    """The first `count` layers against the others, or themselves without others."""
    names, layers = list(layers), {k: _sliced(x) for k, x in layers.items()}
    n = arguments.same_rows(name, least=4, **layers)
    if block_size is not None:
        arguments.counts(name, block_size=block_size)
    every = tuple(range(len(names)))
    tables = [(every[:count], every[count:] or every)]
    if count < len(names):
        tables += [((i,), (i,)) for i in every]
    size = min(block_size or _ROWS, n)
    between, *alone = linear_terms(list(layers.values()), tables, size=size)
    own = [Terms(*(v.diagonal() for v in t)) for t in alone or [between]]
    own = Terms(*(np.concatenate(v) for v in zip(*own, strict=True)))
    hsic = unbiased if debiased else biased
    alone = hsic(own, n)
    _check_own(name, names, own, alone)
    root = np.sqrt(alone)
    rows, columns = root[:count], root[count:] if count < len(names) else root
    return hsic(between, n) / (rows[:, None] * columns[None])


def _sliced(x):
    return x if hasattr(x, "ndim") else np.asarray(x)


def _check_own(name, names, own: Terms, hsic) -> None:
    for what, trace, diagonal, value in zip(
        names, own.traces, own.diagonals, hsic, strict=True
    ):
        if not np.isfinite(trace):
            raise UsageError(
                f"{name}: {what} must be finite, got NaN or inf; the encoder has "
                "diverged"
            )
        if not trace > 0:
            raise UsageError(
                f"{name}: {what} is constant: it has collapsed, and nothing is like it"
            )
        if not value > _LOST * diagonal:
            raise UsageError(
                f"{name}: all rows of {what} are equally far apart, so that its "
                "unbiased HSIC is 0; compare more rows"
            )

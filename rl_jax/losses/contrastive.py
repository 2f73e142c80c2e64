"""Losses over all pairs of a batch; the pairs are streamed, never held."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax import pairwise
from rl_jax.errors import UsageError, checked, known
from rl_jax.losses.normalize import normalize, with_inverse_norm
from rl_jax.pairwise import Implementation, Precision


@checked
def nt_xent(
    a: chex.Array,
    b: chex.Array,
    *,
    temperature: chex.Numeric,
    decoupled: bool = False,
    precision: Precision | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """Normalised temperature-scaled cross-entropy (Chen et al. 2020, arXiv:2002.05709).

    Over the N = 2B views z, with s_ij = ⟨z_i, z_j⟩/τ and p(i) the other view of i's
    example: mean_i [log Σ_{j≠i} exp(s_ij) − s_{i,p(i)}]. The mean over all 2B views;
    the authors' code sums the two directions and is twice this.

    Args:
      a, b: [B, D] embeddings of the two views; normalised here, in float32.
      temperature: τ > 0, a float or a scalar array; differentiable.
      decoupled: leave p(i) out of the sum, of 2B − 2 terms then, as DCL does (Yeh et
        al. 2022, arXiv:2110.06848). The loss has no lower bound of 0. B ≥ 2.
      precision, implementation: of the products, see `pairwise.logsumexp`. Positives
        are float32 products in any case, so that with "bf16" the loss of aligned views
        can be below 0, by some 2⁻⁹/τ. "mosaic_gpu" has no `decoupled`.

    Returns:
      Scalar float32 in [0, log(2B − 1) + 2/τ]; log(2B − 1) when all views are equal.

    Raises:
      UsageError: for a temperature ≤ 0 or shapes other than [B, D] twice.
    """
    _check_pair("nt_xent", a, b)
    if decoupled and len(a) < 2:
        raise UsageError("nt_xent: decoupled needs at least two pairs, got one")
    root = _root("nt_xent", temperature)
    rows_a, rows_b, positive = _pair(a, b, root)
    # Interleaved, so that a batch shared out over devices needs no exchange.
    views = jnp.stack([rows_a, rows_b], axis=1).reshape(-1, a.shape[1])
    options = {"precision": precision, "implementation": implementation}
    if decoupled:
        pair = jnp.arange(len(views)) // 2
        options |= {"y": views, "exclude": pair, "group": pair}
    lse = pairwise.logsumexp(views, scale=1.0, max_norm=root, **options)
    # Row by row: the means of both are large, their difference is not.
    return jnp.mean(lse.reshape(-1, 2) - positive[:, None])


@checked
def info_nce(
    query: chex.Array,
    key: chex.Array,
    negatives: chex.Array | None = None,
    *,
    temperature: chex.Numeric,
    valid: chex.Numeric | None = None,
    in_batch: bool | None = None,
    precision: Precision | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748).

    mean_i [log Σ_j exp(⟨q_i, c_j⟩/τ) − ⟨q_i, k_i⟩/τ]. Without `negatives` the
    candidates c are the keys of the batch, i's own among them; with them, i's own key
    and `negatives[:valid]` (He et al. 2020, arXiv:1911.05722), and with `in_batch` the
    other keys of the batch as well.

    Args:
      query, key: [B, D], positives in the same row; normalised here, in float32.
      negatives: [K, D], of all queries, or [B, K, D], those of each query alone, as
        hard ones that were chosen for it; or None. Normalised here. Nothing is stopped:
        stop the gradient of keys and negatives where the method asks for it.
      temperature: τ > 0, a float or a scalar array; differentiable.
      valid: count of leading negatives, of K, that take part, None for all.
      in_batch: whether the other keys of the batch are candidates; None: only where
        there are no `negatives`.
      precision, implementation: of the products, as in `nt_xent`; those with negatives
        of each query alone are rounded by "bf16" only.

    Returns:
      Scalar float32 ≥ 0; log(number of candidates) − it is a lower bound on the mutual
      information of query and key, in nats, in expectation.

    Raises:
      UsageError: for a temperature ≤ 0 or shapes that do not fit.
    """
    _check_pair("info_nce", query, key)
    root = _root("info_nce", temperature)
    query, key, positive = _pair(query, key, root)
    options = {"scale": 1.0, "max_norm": root}
    options |= {"precision": precision, "implementation": implementation}
    if negatives is None:
        if valid is not None:
            raise UsageError("info_nce: valid counts negatives, but none were given")
        if in_batch is False:
            raise UsageError(
                "info_nce: in_batch=False leaves nothing without negatives"
            )
    own = positive
    if negatives is None or in_batch:
        own = pairwise.logsumexp(query, key, **options)
    if negatives is None:
        return jnp.mean(own - positive)
    count, dim = query.shape
    paired = negatives.ndim == 3 and len(negatives) == count
    if negatives.shape[-1] != dim or not (negatives.ndim == 2 or paired):
        raise UsageError(
            f"info_nce: expected negatives [K, {dim}] or [{count}, K, {dim}], got "
            f"{negatives.shape}"
        )
    filled = None
    if valid is not None:
        # Before normalising: what an unfilled slot holds must not reach a gradient.
        filled = jnp.arange(negatives.shape[-2]) < valid
        negatives = jnp.where(filled[:, None], negatives, 0)
    negatives = normalize(negatives) * root
    if paired:
        logits = _own_logits(query, negatives, filled, precision)
        every = jax.nn.logsumexp(jnp.column_stack([own, logits]), axis=1)
    else:
        others = pairwise.logsumexp(query, negatives, valid=valid, **options)
        every = jnp.logaddexp(own, others)
    return jnp.mean(every - positive)


def _own_logits(query, negatives, filled, precision) -> chex.Array:
    """⟨q_i, c_ik⟩ of [B, D] and [B, K, D], −inf where k does not count: [B, K]."""
    if precision == "bf16":
        query, negatives = (x.astype(jnp.bfloat16) for x in (query, negatives))
    logits = jnp.einsum(
        "bd,bkd->bk", query, negatives,
        precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32,
    )  # fmt: skip
    return logits if filled is None else jnp.where(filled, logits, -jnp.inf)


@checked
def clip(
    image: chex.Array,
    text: chex.Array,
    *,
    logit_scale: chex.Numeric,
    precision: Precision | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """Symmetric InfoNCE of paired modalities (Radford et al. 2021, arXiv:2103.00020).

    With l_ij = s·⟨u_i, v_j⟩: ½ mean_i [log Σ_j exp(l_ij) − l_ii] + ½ mean_j [log Σ_i
    exp(l_ij) − l_jj]. One sweep over the pairs gives both sums, one more the gradients.

    Args:
      image, text: [B, D], pairs in the same row; normalised here, in float32.
      logit_scale: s > 0, the factor itself (1/τ; the authors train its logarithm and
        hold it ≤ 100), a float or a scalar array; differentiable.
      precision, implementation: of the products, as in `nt_xent`.

    Returns:
      Scalar float32 ≥ 0; log B when all embeddings are equal.

    Raises:
      UsageError: for a scale ≤ 0 or shapes other than [B, D] twice.
    """
    _check_pair("clip", image, text)
    root = _root("clip", logit_scale=logit_scale)
    u, v, positive = _pair(image, text, root)
    rows, columns = pairwise.logsumexp(
        u, v, scale=1.0, axis="both", max_norm=root, precision=precision,
        implementation=implementation,
    )  # fmt: skip
    return jnp.mean((rows - positive) + (columns - positive)) / 2


@checked
def sigmoid(
    image: chex.Array,
    text: chex.Array,
    *,
    logit_scale: chex.Numeric,
    bias: chex.Numeric,
    precision: Precision | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """Sigmoid loss of paired modalities, SigLIP (Zhai et al. 2023, arXiv:2303.15343).

    With l_ij = s·⟨u_i, v_j⟩ + b and m_ij = 1 for pairs, −1 otherwise:
    −1/B Σ_ij log σ(m_ij l_ij), the sum over all pairs divided by B, as the authors do.

    Args:
      image, text: [B, D], pairs in the same row; normalised here, in float32.
      logit_scale: s > 0, the factor itself (the authors start at 10); differentiable.
      bias: b (the authors start at −10); differentiable.
      precision, implementation: of the products, see `pairwise.logsumexp`.

    Returns:
      Scalar float32 ≥ 0.

    Raises:
      UsageError: for a scale ≤ 0 or shapes other than [B, D] twice.
    """
    _check_pair("sigmoid", image, text)
    root = _root("sigmoid", logit_scale=logit_scale)
    u, v, positive = _pair(image, text, root)
    # Pairs are left out of the sweep: softplus(l) − l would cancel where l is large.
    negative = pairwise.sigmoid(
        u, v, scale=1.0, bias=bias, exclude=jnp.arange(len(u)), axis="all",
        precision=precision, implementation=implementation,
    )  # fmt: skip
    return negative / len(u) + jnp.mean(jax.nn.softplus(-(positive + bias)))


@checked
def sup_con(
    z: chex.Array,
    label: chex.Array,
    *,
    temperature: chex.Numeric,
    precision: Precision | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """Supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362), its L_out.

    With P(i) the other rows of i's label: the mean over all i with a positive of
    log Σ_{j≠i} exp(s_ij) − 1/|P(i)| Σ_{p∈P(i)} s_ip, s_ij = ⟨z_i, z_j⟩/τ. The sum over
    positives stands outside the logarithm; it is ⟨z_i, sum of the class − z_i⟩, so the
    pairs need no mask. Where each label occurs on two rows, this is NT-Xent. The
    authors' code has τ/0.07 times it, and counts rows without a positive as 0.

    Args:
      z: [N, D], all views of all examples; normalised here, in float32.
      label: int [N], −1 where unknown: such a row is a negative of all others only.
      temperature: τ > 0, a float or a scalar array; differentiable.
      precision, implementation: of the products, see `pairwise.logsumexp`.

    Returns:
      Scalar float32 ≥ 0; 0 where no row has a positive.

    Raises:
      UsageError: for a temperature ≤ 0, or shapes that are not [N, D] and int [N].
    """
    if z.ndim != 2 or not len(z) or label.shape != z.shape[:1]:
        raise UsageError(
            "sup_con: expected [N, D] and label [N] with N >= 1, got "
            f"{z.shape}, {label.shape}"
        )
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise UsageError(f"sup_con: label must be of an int dtype, got {label.dtype}")
    _check_embeddings("sup_con", z)
    root = _root("sup_con", temperature)
    z = normalize(z) * root
    lse = pairwise.logsumexp(
        z, scale=1.0, max_norm=root, precision=precision, implementation=implementation
    )
    number = jnp.unique(label, size=len(label), return_inverse=True)[1]
    together = jax.ops.segment_sum(z, number, len(label))[number] - z
    ones = jnp.ones(len(z), jnp.float32)
    others = jax.ops.segment_sum(ones, number, len(label))[number] - 1
    positive = jnp.sum(z * together, axis=1) / jnp.maximum(others, 1)
    anchor = (label >= 0) & (others > 0)
    value = jnp.sum(jnp.where(anchor, lse - positive, 0.0))
    return value / jnp.maximum(anchor.sum(), 1)


@checked
def alignment(a: chex.Array, b: chex.Array, *, alpha: float = 2.0) -> chex.Array:
    """Mean distance E ‖a − b‖^α of positives (Wang & Isola 2020, arXiv:2005.10242).

    Args:
      a, b: [B, D] embeddings of the two views; normalised here, in float32.
      alpha: exponent, > 0.

    Returns:
      Scalar float32 in [0, 2^alpha]; 0 when the encoder is invariant to the views.

    Raises:
      UsageError: for alpha ≤ 0 or shapes other than [B, D] twice.
    """
    _check_pair("alignment", a, b)
    if alpha <= 0:
        raise UsageError(f"alignment: alpha must be > 0, got {alpha}")
    square = jnp.sum(jnp.square(normalize(a) - normalize(b)), axis=1)
    if alpha == 2:
        return jnp.mean(square)
    # The root has no gradient at 0: equal rows count as 0 with gradient 0.
    apart = square != 0
    return jnp.mean(jnp.where(apart, jnp.where(apart, square, 1.0) ** (alpha / 2), 0.0))


@checked
def uniformity(
    z: chex.Array,
    *,
    t: float = 2.0,
    precision: Precision | None = None,
    implementation: Implementation | None = None,
) -> chex.Array:
    """Log mean Gaussian potential of all pairs (Wang & Isola 2020, arXiv:2005.10242).

    log 1/(N(N−1)) Σ_{i≠j} exp(−t ‖z_i − z_j‖²); on unit rows ‖z_i − z_j‖² is
    2 − 2⟨z_i, z_j⟩, which makes it a log-sum-exp over pairs.

    Args:
      z: [N, D], N ≥ 2; normalised here, in float32; rows of zeros are (1, 0, ..., 0).
      t: inverse width, > 0.
      precision, implementation: of the products, see `pairwise.logsumexp`.

    Returns:
      Scalar float32 in [−4t, 0]; 0 when all rows are equal, lower when they spread.

    Raises:
      UsageError: for t ≤ 0, N < 2 or a rank other than 2.
    """
    if z.ndim != 2 or len(z) < 2:
        raise UsageError(f"uniformity: expected [N, D] with N >= 2, got {z.shape}")
    if t <= 0:
        raise UsageError(f"uniformity: t must be > 0, got {t}")
    options = {"precision": precision, "implementation": implementation}
    unit, somewhere = normalize(z), jnp.eye(1, z.shape[1])
    unit = jnp.where((unit == 0).all(1, keepdims=True), somewhere, unit)
    lse = pairwise.logsumexp(unit, scale=2.0 * t, max_norm=1.0, **options)
    return jax.nn.logsumexp(lse) - 2.0 * t - math.log(len(z) * (len(z) - 1))


def _check_pair(name: str, a: chex.Array, b: chex.Array) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        raise UsageError(
            f"{name}: expected two [B, D] arrays, got {a.shape}, {b.shape}"
        )
    _check_embeddings(name, a, b)


def _check_embeddings(name: str, *arrays: chex.Array) -> None:
    for x in arrays:
        if not len(x):
            raise UsageError(f"{name}: there must be at least one row, got {x.shape}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UsageError(
                f"{name}: embeddings must be floating, float32 say, got {x.dtype}"
            )


def _pair(a: chex.Array, b: chex.Array, root: chex.Numeric):
    """Unit rows of a and b times `root`, and the inner product of each pair of them.

    The products are taken from the inputs, so that the rows are kept once, not twice.
    They are float32 ones for every precision: an error of rounding in them would be one
    of the loss, while those in a sum of exponentials cancel.
    """
    (a, inverse_a), (b, inverse_b) = with_inverse_norm(a), with_inverse_norm(b)
    by_a, by_b = inverse_a * root, inverse_b * root
    positive = jnp.sum(a * b, axis=1, keepdims=True) * by_a * by_b
    return a * by_a, b * by_b, positive[:, 0]


def _root(
    name: str,
    temperature: chex.Numeric | None = None,
    *,
    logit_scale: chex.Numeric | None = None,
) -> chex.Numeric:
    """√(1/τ) or √s, by which unit rows are multiplied so that products are logits.

    A factor of the rows and not of the products: the gradient by it is then a sum over
    rows of what is left once positives and negatives have cancelled. As a factor of the
    products it would be the difference of two large sums.

    Raises:
      UsageError: for a value that is not positive and finite; a traced one has none.
    """
    what, value = "temperature", temperature
    if temperature is None:
        what, value = "logit_scale", logit_scale
    if value is None:
        raise UsageError(f"{name}: {what} must be a number > 0, got None")
    if jnp.ndim(value):
        raise UsageError(
            f"{name}: {what} must be a scalar, got shape {jnp.shape(value)}"
        )
    number = known(value)
    if number is not None and not 0 < number < np.inf:
        raise UsageError(f"{name}: {what} must be > 0, got {value}")
    if isinstance(value, int | float):
        root = math.sqrt(value)
        return 1 / root if what == "temperature" else root
    value = jnp.asarray(value, jnp.float32)
    return lax.rsqrt(value) if what == "temperature" else jnp.sqrt(value)

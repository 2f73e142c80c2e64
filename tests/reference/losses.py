"""Losses, neighbours and memories in NumPy float64, written from the papers.

Every loss returns `(value, gradients)` with one gradient per array argument, in
the order of the arguments, and the temperature last: `jax.value_and_grad`'s form.
"""

import numpy as np

EPS = 1e-12


def normalize(x, *, eps=EPS):
    """Rows of unit length: x / sqrt(max(sum x^2, eps))."""
    x = np.asarray(x, np.float64)
    return x / np.sqrt(np.maximum(np.sum(x * x, -1, keepdims=True), eps))


def normalize_vjp(x, dz, *, eps=EPS):
    """The gradient at x from the gradient dz at normalize(x).

    (dz - z <z, dz>) / |x|, and dz / sqrt(eps) where a row is shorter than sqrt(eps).
    """
    x = np.asarray(x, np.float64)
    squares = np.sum(x * x, -1, keepdims=True)
    z = normalize(x, eps=eps)
    radial = np.where(squares > eps, np.sum(z * dz, -1, keepdims=True), 0.0)
    return (dz - z * radial) / np.sqrt(np.maximum(squares, eps))


def _logits(x, y, scale, valid, exclude):
    """Scale x y^T, with -inf where a pair does not count."""
    x = np.asarray(x, np.float64)
    self_pairs = y is None
    y = x if self_pairs else np.array(y, np.float64)
    counts = np.ones((len(x), len(y)), bool)
    if self_pairs:
        counts &= ~np.eye(len(x), dtype=bool)
    if valid is not None:
        counts[:, int(valid) :] = False
        y = np.where((np.arange(len(y)) < int(valid))[:, None], y, 0.0)
    if exclude is not None:
        counts &= np.arange(len(y))[None, :] != np.asarray(exclude)[:, None]
    return np.where(counts, float(scale) * (x @ y.T), -np.inf), x, y


def _logsumexp(logits, axis):
    top = np.max(logits, axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(logits - top), axis)) + np.squeeze(top, axis)


def logsumexp_rows(x, y=None, *, scale, valid=None, exclude=None):
    """Log sum_j exp(scale <x_i, y_j>) [N] over the pairs that count.

    y=None: self pairs without the diagonal. Only y[:valid] count; row i leaves out
    column exclude[i] (-1: none). A row without pairs is -inf.
    """
    return _logsumexp(_logits(x, y, scale, valid, exclude)[0], 1)


def logsumexp_columns(x, y=None, *, scale, valid=None, exclude=None):
    """Log sum_i exp(scale <x_i, y_j>) [M] over the pairs that count."""
    return _logsumexp(_logits(x, y, scale, valid, exclude)[0], 0)


def logsumexp_vjp(
    x, y=None, *, scale, rows=None, columns=None, valid=None, exclude=None
):
    """Gradients (dx, dy, dscale) of <rows, row sums> + <columns, column sums>.

    With y=None the two roles of x add up in dx and dy is left out.
    """
    logits, xs, ys = _logits(x, y, scale, valid, exclude)
    ds = np.zeros_like(logits)
    for bar, axis in ((rows, 1), (columns, 0)):
        if bar is not None:
            sums = np.expand_dims(_logsumexp(logits, axis), axis)
            sums = np.where(np.isfinite(sums), sums, 0.0)
            ds += np.expand_dims(np.asarray(bar, np.float64), axis) * np.exp(
                logits - sums
            )
    dx, dy = float(scale) * (ds @ ys), float(scale) * (ds.T @ xs)
    dscale = np.sum(ds * (xs @ ys.T))
    return (dx + dy, dscale) if y is None else (dx, dy, dscale)


def _softmax(logits):
    return np.exp(logits - _logsumexp(logits, 1)[:, None])


def nt_xent(a, b, *, temperature):
    """NT-Xent (Chen et al. 2020, arXiv:2002.05709, eq. 1), the mean over 2B views.

    l(i, p) = -log exp(s_ip / t) / sum_{k != i} exp(s_ik / t), s the cosine.

    Returns:
      value, (da, db, dtemperature).
    """
    t, size = float(temperature), len(a)
    z = np.concatenate([normalize(a), normalize(b)])
    partner = np.roll(np.arange(2 * size), size)
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    positive = logits[np.arange(2 * size), partner]
    value = np.mean(_logsumexp(logits, 1) - positive)

    ds = _softmax(logits)
    ds[np.arange(2 * size), partner] -= 1.0
    ds /= 2 * size
    dz = (ds + ds.T) @ z / t
    dt = -np.sum(ds * (z @ z.T)) / t**2
    return value, (normalize_vjp(a, dz[:size]), normalize_vjp(b, dz[size:]), dt)


def info_nce(query, key, negatives=None, *, temperature, valid=None):
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748), the mean over queries.

    -log exp(s_ii / t) / sum_{c in C_i} exp(s_ic / t), s the cosine. C_i is every key
    of the batch, or key i and negatives[:valid] where negatives are given.

    Returns:
      value, (dquery, dkey, dtemperature), or with negatives
      value, (dquery, dkey, dnegatives, dtemperature).
    """
    t, rows = float(temperature), np.arange(len(query))
    q, k = normalize(query), normalize(key)
    if negatives is None:
        similarity, target = q @ k.T, rows
    else:
        count = len(negatives) if valid is None else int(valid)
        n = normalize(negatives[:count])
        similarity = np.concatenate([np.sum(q * k, 1, keepdims=True), q @ n.T], 1)
        target = np.zeros_like(rows)
    logits = similarity / t
    value = np.mean(_logsumexp(logits, 1) - logits[rows, target])

    ds = _softmax(logits)
    ds[rows, target] -= 1.0
    ds /= len(rows)
    dt = -np.sum(ds * similarity) / t**2
    if negatives is None:
        dq, dk = ds @ k / t, ds.T @ q / t
        return value, (normalize_vjp(query, dq), normalize_vjp(key, dk), dt)
    dq, dk = (ds[:, :1] * k + ds[:, 1:] @ n) / t, ds[:, :1] * q / t
    dn = np.zeros(np.shape(negatives))
    dn[:count] = normalize_vjp(negatives[:count], ds[:, 1:].T @ q / t)
    return value, (normalize_vjp(query, dq), normalize_vjp(key, dk), dn, dt)


def alignment(a, b, *, alpha=2.0):
    """Mean |a - b|^alpha of unit rows (Wang & Isola 2020, arXiv:2005.10242)."""
    gap = normalize(a) - normalize(b)
    distance = np.linalg.norm(gap, axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        slope = np.where(distance > 0, alpha * distance ** (alpha - 2.0), 0.0)
    d = slope * gap / len(gap)
    return np.mean(distance**alpha), (normalize_vjp(a, d), normalize_vjp(b, -d))


def uniformity(z, *, t=2.0):
    """Log mean_{i<j} exp(-t |z_i - z_j|^2) of unit rows (Wang & Isola 2020)."""
    rows = normalize(z)
    gaps = rows[:, None, :] - rows[None, :, :]
    kernel = np.exp(-t * np.sum(gaps**2, -1))
    np.fill_diagonal(kernel, 0.0)
    value = np.log(np.sum(kernel) / (len(rows) * (len(rows) - 1)))
    dz = -4.0 * t * np.sum((kernel / np.sum(kernel))[:, :, None] * gaps, 1)
    return value, (normalize_vjp(z, dz),)


def negative_cosine(p, z):
    """-mean cos(p_i, z_i); gradients to both (Chen & He 2020, arXiv:2011.10566)."""
    u, v = normalize(p), normalize(z)
    value = -np.mean(np.sum(u * v, 1))
    return value, (normalize_vjp(p, -v / len(u)), normalize_vjp(z, -u / len(u)))


def top_k(x, y, *, k):
    """The k largest <x_i, y_j>: values and columns [N, k], ties by lower column."""
    scores = np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, columns, 1), columns


def knn(query, bank, labels, *, k, temperature, classes):
    """Weighted k-NN votes [Q, classes] (Wu et al. 2018, arXiv:1805.01978).

    Neighbours by cosine, each voting exp(cosine / temperature) for its label.
    """
    similarity, columns = top_k(normalize(query), normalize(bank), k=k)
    votes = np.zeros((len(query), classes))
    for i, (row, neighbours) in enumerate(zip(similarity, columns, strict=True)):
        for s, j in zip(row, neighbours, strict=True):
            votes[i, labels[j]] += np.exp(s / temperature)
    return votes


def ema(target, online, *, decay):
    """Decay * target + (1 - decay) * online."""
    target, online = np.asarray(target, np.float64), np.asarray(online, np.float64)
    return decay * target + (1.0 - decay) * online


def enqueue(queue, rows, *, cursor, count):
    """Write rows one after another from cursor, wrapping at the end of the queue.

    Returns:
      queue, cursor and count (how many slots have been filled) afterwards.
    """
    queue = np.array(queue)
    for row in rows:
        queue[cursor] = row
        cursor = (cursor + 1) % len(queue)
        count = min(count + 1, len(queue))
    return queue, cursor, count

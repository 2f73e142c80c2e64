"""Losses, neighbours and memories in NumPy float64, written from the papers.

Every loss returns `(value, gradients)` with one gradient per array argument, in
the order of the arguments, and temperature, scale and bias last: the form of
`jax.value_and_grad`.
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


def sigmoid_rows(x, y=None, *, scale, bias, valid=None, exclude=None):
    """Sum_j log(1 + exp(scale <x_i, y_j> + bias)) [N] over the pairs that count.

    y=None: self pairs without the diagonal. Only y[:valid] count; row i leaves out
    column exclude[i] (-1: none). A row without pairs is 0.
    """
    logits = _logits(x, y, scale, valid, exclude)[0] + float(bias)
    return np.sum(np.logaddexp(0.0, logits), 1)


def sigmoid_vjp(x, y=None, *, scale, bias, rows, valid=None, exclude=None):
    """Gradients (dx, dy, dscale, dbias) of <rows, row sums>.

    With y=None the two roles of x add up in dx and dy is left out.
    """
    logits, xs, ys = _logits(x, y, scale, valid, exclude)
    ds = np.asarray(rows, np.float64)[:, None] * _logistic(logits + float(bias))
    dx, dy = float(scale) * (ds @ ys), float(scale) * (ds.T @ xs)
    dscale, dbias = np.sum(ds * (xs @ ys.T)), np.sum(ds)
    return (dx + dy, dscale, dbias) if y is None else (dx, dy, dscale, dbias)


def _logistic(logits):
    """1 / (1 + exp(-l)), which for a large |l| neither overflows nor rounds to 0."""
    return np.exp(-np.logaddexp(0.0, -logits))


def _kernel(x, gamma):
    """<x_i, x_j>, or exp(-gamma |x_i - x_j|^2); the diagonal is 0."""
    x = np.asarray(x, np.float64)
    if gamma is None:
        kernel = x @ x.T
    else:
        squares = np.sum((x[:, None, :] - x[None, :, :]) ** 2, -1)
        kernel = np.exp(-float(gamma) * squares)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def moments(x, y, *, gamma_x=None, gamma_y=None):
    """Second moments and row sums of two kernels of the same rows, no diagonals.

    Returns:
      sum K_ij^2, sum K_ij L_ij, sum L_ij^2, sum_j K_ij [n], sum_j L_ij [n].
    """
    a, b = _kernel(x, gamma_x), _kernel(y, gamma_y)
    return np.sum(a * a), np.sum(a * b), np.sum(b * b), np.sum(a, 1), np.sum(b, 1)


def _softmax(logits):
    return np.exp(logits - _logsumexp(logits, 1)[:, None])


def nt_xent(a, b, *, temperature, decoupled=False):
    """NT-Xent (Chen et al. 2020, arXiv:2002.05709, eq. 1), the mean over 2B views.

    l(i, p) = -log exp(s_ip / t) / sum_{k != i} exp(s_ik / t), s the cosine.
    decoupled: the sum without p (Yeh et al. 2022, arXiv:2110.06848, eq. 6).

    Returns:
      value, (da, db, dtemperature).
    """
    t, size = float(temperature), len(a)
    z = np.concatenate([normalize(a), normalize(b)])
    partner = np.roll(np.arange(2 * size), size)
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    positive = logits[np.arange(2 * size), partner]
    if decoupled:
        logits[np.arange(2 * size), partner] = -np.inf
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


def clip(image, text, *, logit_scale):
    """Symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020), both ways halved.

    l_ij = s <u_i, v_j> with unit rows; cross-entropy of each row with its diagonal
    entry, and of each column with its own.

    Returns:
      value, (dimage, dtext, dlogit_scale).
    """
    s, size = float(logit_scale), len(image)
    u, v = normalize(image), normalize(text)
    logits = s * (u @ v.T)
    rows, columns = _logsumexp(logits, 1), _logsumexp(logits, 0)
    value = np.mean((rows + columns) / 2 - np.diag(logits))

    ds = (_softmax(logits) + _softmax(logits.T).T) / 2 - np.eye(size)
    ds /= size
    du, dv = s * (ds @ v), s * (ds.T @ u)
    dscale = np.sum(ds * (u @ v.T))
    return value, (normalize_vjp(image, du), normalize_vjp(text, dv), dscale)


def sigmoid(image, text, *, logit_scale, bias):
    """Pairwise sigmoid loss of SigLIP (Zhai et al. 2023, arXiv:2303.15343).

    -1/B sum_ij log sigmoid(m_ij l_ij), l_ij = s <u_i, v_j> + b with unit rows, m = 1 on
    the diagonal and -1 elsewhere.

    Returns:
      value, (dimage, dtext, dlogit_scale, dbias).
    """
    s, size = float(logit_scale), len(image)
    u, v = normalize(image), normalize(text)
    sign = 2.0 * np.eye(size) - 1.0
    logits = s * (u @ v.T) + float(bias)
    value = np.sum(np.logaddexp(0.0, -sign * logits)) / size

    ds = -sign * _logistic(-sign * logits) / size
    du, dv = s * (ds @ v), s * (ds.T @ u)
    gradients = normalize_vjp(image, du), normalize_vjp(text, dv)
    return value, (*gradients, np.sum(ds * (u @ v.T)), np.sum(ds))


def sup_con(z, label, *, temperature):
    """Supervised contrastive loss, L_out (Khosla et al. 2020, arXiv:2004.11362, eq. 2).

    Mean over the rows i that have positives P(i), the other rows of the same label, of
    log sum_{j != i} exp(s_ij / t) - mean_{p in P(i)} s_ip / t. Label -1 is unlabelled:
    only a negative of other rows. Without any positive the loss is 0.

    Returns:
      value, (dz, dtemperature).
    """
    t, rows = float(temperature), normalize(z)
    label = np.asarray(label)
    positive = (label[:, None] == label[None, :]) & (label[:, None] != -1)
    np.fill_diagonal(positive, False)
    count = np.sum(positive, 1)
    anchor = count > 0
    if not np.any(anchor):
        return 0.0, (np.zeros(np.shape(z)), 0.0)
    share = positive / np.maximum(count, 1)[:, None]
    similarity = rows @ rows.T
    logits = similarity / t
    np.fill_diagonal(logits, -np.inf)
    terms = _logsumexp(logits, 1) - np.sum(share * similarity, 1) / t
    value = np.mean(terms[anchor])

    ds = anchor[:, None] * (_softmax(logits) - share) / np.sum(anchor)
    dz = (ds + ds.T) @ rows / t
    return value, (normalize_vjp(z, dz), -np.sum(ds * similarity) / t**2)


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

"""InfoNCE on sequences in NumPy float64, written from the papers."""

import numpy as np

from reference.losses import normalize


def find(query, candidates, target, *, temperature):
    """Mean over queries of log sum_c exp(s_c / t) - s_target / t, s the cosine."""
    s = normalize(query) @ normalize(candidates).T / temperature
    return np.mean(np.log(np.sum(np.exp(s), 1)) - s[np.arange(len(s)), target])


def cpc(z, c, predictors, *, temperature):
    """Contrastive predictive coding (van den Oord et al. 2018, arXiv:1807.03748).

    z [B, T, D], c [B, T, C], predictors: for each k = 1 .. K the matrix [C, D] and the
    offset [D]. Candidates of step k are all z_jt with t >= k (counted from 0).

    Returns:
      the loss of each k, [K].
    """
    z, c = np.asarray(z, np.float64), np.asarray(c, np.float64)
    losses = []
    for k, (kernel, bias) in enumerate(predictors, 1):
        queries, candidates, target, where = [], [], [], {}
        for i in range(len(z)):
            for t in range(k, z.shape[1]):
                where[i, t] = len(candidates)
                candidates.append(z[i, t])
        for i in range(len(z)):
            for t in range(z.shape[1] - k):
                queries.append(c[i, t] @ kernel + bias)
                target.append(where[i, t + k])
        losses.append(
            find(
                np.stack(queries), np.stack(candidates), target, temperature=temperature
            )
        )
    return np.array(losses)

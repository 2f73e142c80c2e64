"""A memory bank in plain loops, float64."""

import numpy as np

from reference.losses import normalize


def memory_bank(bank, index, z, sample, *, temperature, momentum):
    """One step of instance discrimination (Wu et al. 2018, arXiv:1805.01978).

    The softmax over the sample instead of noise-contrastive estimation. `bank` is a
    dict of the rows seen so far; it is changed.

    Returns:
      the mean loss over the examples that have a row; 0 where none has.
    """
    terms, z = [], normalize(z)
    for i, row in zip(index, z, strict=True):
        if i in bank:
            positive = np.exp(row @ bank[i] / temperature)
            negative = sum(
                np.exp(row @ bank[j] / temperature)
                for j in sample
                if j in bank and j != i
            )
            terms.append(-np.log(positive / (positive + negative)))
    for i, row in zip(index, z, strict=True):
        old = bank.get(i, row)
        bank[i] = normalize(momentum * old + (1 - momentum) * row)
    return np.mean(terms) if terms else 0.0

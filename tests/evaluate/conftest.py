"""Handwritten digits, split once."""

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits


class Digits(NamedTuple):
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """For scikit-learn: its threads get into each other's way on small problems."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))[:800]
    x = (data.data[order] / 16).astype(np.float32)
    y = data.target[order].astype(np.int32)
    return Digits(x[:500], y[:500], x[500:], y[500:])

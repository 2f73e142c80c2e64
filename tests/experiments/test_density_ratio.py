"""The logit is the log density ratio: holds as published, fails when broken."""

import numpy as np
import pytest

from experiments import density_ratio as experiment
from tests.experiments.running import failed, passes

MISS = "rms of logit − log ratio"


@pytest.mark.slow
def test_it_holds():
    passes(experiment)


@pytest.mark.slow
def test_more_negatives_lower_the_logit_by_their_logarithm():
    passes(experiment, seeds=1, negatives=4)
    # The correlation does not see it.
    assert failed(experiment, seeds=1, negatives=4, corrected=False) == [MISS]


@pytest.mark.slow
def test_the_ratio_of_another_law_is_another(monkeypatch):
    right = experiment._log_ratio
    monkeypatch.setattr(experiment, "_log_ratio", lambda x: right(x) + 0.5 * x[:, 0])
    assert len(failed(experiment, seeds=3)) == 2


def test_the_exact_ratio_is_that_of_the_densities():
    from scipy.stats import multivariate_normal as normal

    x = np.random.default_rng(1).normal(size=(50, 2))
    p = normal.logpdf(x, experiment.MEAN, experiment.COVARIANCE)
    assert np.allclose(experiment._log_ratio(x), p - normal.logpdf(x, np.zeros(2)))

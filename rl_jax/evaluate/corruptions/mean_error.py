"""The mean corruption error, in units of a baseline's."""

from typing import NamedTuple

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate.corruptions.severities import SEVERITIES


class MeanCorruptionError(NamedTuple):
    """Errors under corruption, each over that of the baseline under the same one.

    Attributes:
      mce: mean of `per_corruption`; below 1 is better than the baseline.
      per_corruption: float [F], the corruption errors.
      relative_mce: mean of what is lost to corruption, over what the baseline loses;
        None without the clean errors.
      relative_per_corruption: float [F], or None.
    """

    mce: float
    per_corruption: np.ndarray
    relative_mce: float | None
    relative_per_corruption: np.ndarray | None


@checked
def mean_corruption_error(
    errors: chex.Array,
    baseline: chex.Array,
    *,
    clean_error: float | None = None,
    clean_baseline: float | None = None,
) -> MeanCorruptionError:
    """The mCE and relative mCE of Hendrycks & Dietterich (2019, arXiv:1903.12261).

    CE_f = Σ_s E_fs / Σ_s E_fs^base and mCE their mean over the corruptions f;
    relative: Σ_s (E_fs − E_clean) / Σ_s (E_fs^base − E_clean^base). As shares, where
    the paper prints percent; its baseline is AlexNet, here it is whatever encoder you
    compare with.

    Args:
      errors: E [F, 5] error rates in [0, 1], by corruption and severity.
      baseline: [F, 5], those of the baseline on the same images.
      clean_error, clean_baseline: error rates on the clean images; both or neither.

    Returns:
      A `MeanCorruptionError`.

    Raises:
      UsageError: for what is no [F, 5] error rates or one clean error without the
        other, and where the baseline makes no errors, or loses nothing to a corruption.
    """
    name = "mean_corruption_error"
    errors, baseline = np.asarray(errors, float), np.asarray(baseline, float)
    shape = (len(errors) if errors.ndim else 0, len(SEVERITIES))
    rates = {"errors": errors, "baseline": baseline}
    for what, array in rates.items():
        if array.shape != shape or not shape[0]:
            raise UsageError(
                f"{name}: {what} must be [F, {shape[1]}], corruptions by severities "
                f"and the same in both, got {array.shape}"
            )
    if (clean_error is None) != (clean_baseline is None):
        raise UsageError(
            f"{name}: clean_error and clean_baseline go together, got {clean_error} "
            f"and {clean_baseline}"
        )
    if clean_error is not None:
        rates |= {"clean_error": clean_error, "clean_baseline": clean_baseline}
    for what, array in rates.items():
        if not np.all((np.asarray(array) >= 0) & (np.asarray(array) <= 1)):
            raise UsageError(
                f"{name}: {what} must be error rates in [0, 1], got "
                f"{np.min(array):g} .. {np.max(array):g}"
            )
    _check_denominator(name, baseline.sum(1), "makes no errors")
    ratio = errors.sum(1) / baseline.sum(1)
    if clean_error is None:
        return MeanCorruptionError(float(ratio.mean()), ratio, None, None)
    lost = (baseline - clean_baseline).sum(1)
    _check_denominator(name, lost, "loses nothing against clean images")
    relative = (errors - clean_error).sum(1) / lost
    return MeanCorruptionError(
        float(ratio.mean()), ratio, float(relative.mean()), relative
    )


def _check_denominator(name, denominator, what):
    if not (denominator > 0).all():
        raise UsageError(
            f"{name}: the baseline {what} under corruption {denominator.argmin()}, "
            "which leaves no unit to measure in; take a weaker one or leave out the row"
        )

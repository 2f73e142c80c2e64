"""Common corruptions of images: names, severities, and the error under them."""

from rl_jax.evaluate.corruptions.corrupt import (
    CORRUPTIONS,
    corrupt,
    corrupt_all,
    fields,
)
from rl_jax.evaluate.corruptions.mean_error import (
    MeanCorruptionError,
    mean_corruption_error,
)
from rl_jax.evaluate.corruptions.severities import SEVERITIES

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "MeanCorruptionError",
    "corrupt",
    "corrupt_all",
    "fields",
    "mean_corruption_error",
]

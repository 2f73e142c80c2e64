"""The sections of an evaluation, from arrays: each measured, worded and recorded."""

from rl_jax.run.measures.accuracy import DRAWS, Predictions, share_name, table
from rl_jax.run.measures.all import SECTIONS, measure
from rl_jax.run.measures.comparison import drift
from rl_jax.run.measures.robustness import Images, Seen
from rl_jax.run.measures.section import Section, plain, record
from rl_jax.run.measures.study import Pair, Reading, Study, readings, spread

__all__ = [
    "DRAWS",
    "Images",
    "Pair",
    "Predictions",
    "Reading",
    "SECTIONS",
    "Section",
    "Seen",
    "Study",
    "drift",
    "measure",
    "plain",
    "readings",
    "record",
    "share_name",
    "spread",
    "table",
]

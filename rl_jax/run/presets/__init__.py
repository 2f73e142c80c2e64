"""Settings that work for a kind of data; a flag of the command line overrides them."""

from rl_jax.run.presets.choose import (
    for_data,
    for_encoder,
    for_file,
    for_method,
    for_network,
    for_size,
    for_steps,
)
from rl_jax.run.presets.digits import digits
from rl_jax.run.presets.images import photographs, small_images
from rl_jax.run.presets.preset import OTHERS, Change, Preset
from rl_jax.run.presets.records import records, strokes

__all__ = [
    "OTHERS",
    "Change",
    "Preset",
    "digits",
    "for_data",
    "for_encoder",
    "for_file",
    "for_method",
    "for_network",
    "for_size",
    "for_steps",
    "photographs",
    "records",
    "small_images",
    "strokes",
]

"""Sources of images, and the batch of every step as a pure function of (seed, step)."""

from rl_jax.data.ahead import batches
from rl_jax.data.arrays import arrays
from rl_jax.data.captions import captioned, has_captions
from rl_jax.data.check import check_source
from rl_jax.data.choices import choices
from rl_jax.data.decode import decode_speed
from rl_jax.data.digit_captions import DigitPrompts, digit_prompts
from rl_jax.data.digits import digits
from rl_jax.data.fingerprint import difference, fingerprint
from rl_jax.data.folder import folder
from rl_jax.data.layout import layout, usual_side
from rl_jax.data.npz_file import npz
from rl_jax.data.order import batch_indices, epoch_order, steps_per_epoch
from rl_jax.data.problems import Problems
from rl_jax.data.records import records
from rl_jax.data.sequences import oscillators, strokes
from rl_jax.data.source import (
    Source,
    contents,
    examples,
    fits,
    in_memory,
    labels_at,
    resident,
    rows,
    shapes,
)
from rl_jax.data.stream import IN_THREADS, Loading, Stream, stream
from rl_jax.data.synthetic import ica, latent_classes
from rl_jax.data.tables.source import hugging_face
from rl_jax.data.text import text, topics
from rl_jax.data.tokens import (
    Tokenizer,
    class_prompts,
    padded,
    pieces,
    train_pieces,
    train_words,
    windows,
    words,
)
from rl_jax.data.webdataset.source import shards

__all__ = [
    "IN_THREADS",
    "DigitPrompts",
    "Loading",
    "Problems",
    "Source",
    "Stream",
    "Tokenizer",
    "arrays",
    "batch_indices",
    "batches",
    "captioned",
    "check_source",
    "choices",
    "class_prompts",
    "contents",
    "decode_speed",
    "difference",
    "digit_prompts",
    "digits",
    "epoch_order",
    "examples",
    "fingerprint",
    "fits",
    "folder",
    "has_captions",
    "hugging_face",
    "ica",
    "in_memory",
    "labels_at",
    "latent_classes",
    "layout",
    "npz",
    "oscillators",
    "padded",
    "pieces",
    "records",
    "resident",
    "rows",
    "shapes",
    "shards",
    "steps_per_epoch",
    "stream",
    "strokes",
    "text",
    "topics",
    "train_pieces",
    "train_words",
    "usual_side",
    "windows",
    "words",
]

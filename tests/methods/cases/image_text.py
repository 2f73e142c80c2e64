"""CLIP and SigLIP."""

import jax.numpy as jnp
import numpy as np

from cases import BATCH, Case, images, noisy
from rl_jax import augment, methods, networks

ONE_VIEW = augment.views(noisy, num_views=1)


def captioned(seed=0):
    """Images with three captions each, of 1 to 6 tokens out of 20."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, 20, (BATCH, 3, 6))
    length = rng.integers(1, 7, (BATCH, 3, 1))
    tokens = jnp.asarray(np.where(np.arange(6) < length, tokens, 0), jnp.int32)
    return images(seed) | {"tokens": tokens}


def one_caption(seed=0):
    batch = captioned(seed)
    return batch | {"tokens": batch["tokens"][:, 0]}


def towers(*, batch_norm=True):
    text = networks.text_transformer(
        vocab_size=20, length=6, width=12, depth=1, heads=2
    )
    return networks.mlp(features=(16,), out=16, batch_norm=batch_norm), text


CASES = {
    "clip": Case(lambda: methods.clip(*towers(), dim=8), captioned, ONE_VIEW),
    "clip of one caption in micro-batches": Case(
        lambda: methods.clip(*towers(batch_norm=False), dim=8, micro_batch=BATCH // 2),
        one_caption,
        slow=True,
    ),
    "clip + probe": Case(
        lambda: methods.with_probe(methods.clip(*towers()), num_classes=4),
        captioned,
        ONE_VIEW,
        slow=True,
    ),
    "siglip": Case(lambda: methods.siglip(*towers(), dim=8), captioned, ONE_VIEW),
}

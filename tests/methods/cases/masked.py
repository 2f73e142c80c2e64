"""MAE, SimMIM, I-JEPA, iBOT, DINOv2, BERT, and SimCSE for its texts."""

import jax.numpy as jnp
import numpy as np

from cases import BATCH, PLAIN, Case, crops
from rl_jax import methods, networks


def texts(seed=0):
    """Texts of 1 to 12 tokens out of 20, padding behind."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, 20, (BATCH, 12))
    length = rng.integers(1, 13, (BATCH, 1))
    return {
        "index": jnp.asarray(rng.permutation(100)[:BATCH], jnp.int32),
        "tokens": jnp.asarray(np.where(np.arange(12) < length, tokens, 0), jnp.int32),
        "label": jnp.asarray(rng.integers(0, 4, BATCH), jnp.int32),
    }


def mae(**arguments):
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="none")
    decoder = networks.mae_decoder(width=16, depth=1, heads=2)
    return methods.mae(encoder, decoder, **arguments)


def simmim(**arguments):
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="none")
    return methods.simmim(encoder, **arguments)


def i_jepa(**arguments):
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="none")
    predictor = networks.jepa_predictor(width=16, depth=1, heads=2)
    return methods.i_jepa(encoder, predictor, total_steps=10, decay=0.9, **arguments)


def distilled(method, **arguments):
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="all")
    head = networks.projection_head(hidden=16, out=8, batch_norm=False)
    given = {"total_steps": 10, "decay": 0.9, "prototypes": 12}
    return method(encoder, head, **given | arguments)


def bert(**arguments):
    encoder = networks.text_transformer(
        vocab_size=20, length=12, width=16, depth=1, heads=2, pool="none"
    )
    return methods.bert(encoder, vocab_size=20, **arguments)


def simcse(dropout=0.1, **arguments):
    encoder = networks.text_transformer(
        vocab_size=20, length=12, width=16, depth=1, heads=2, dropout=dropout
    )
    head = networks.projection_head(hidden=16, out=8, batch_norm=False)
    return methods.simcse(encoder, head, **arguments)


CASES = {
    "mae": Case(mae),
    "mae normalised": Case(lambda: mae(normalise_patches=True), slow=True),
    "simmim": Case(simmim),
    "i_jepa": Case(i_jepa),
    "ibot": Case(lambda: distilled(methods.ibot), augment=crops(2, size=6)),
    "ibot with separate heads": Case(
        lambda: distilled(
            methods.ibot, shared_head=False, warmup_steps=4, student_temperature=0.5
        ),
        slow=True,
    ),
    "dino_v2": Case(lambda: distilled(methods.dino_v2), augment=crops(2, size=6)),
    "dino_v2 with one head": Case(
        lambda: distilled(methods.dino_v2, shared_head=True, koleo_weight=0.0),
        slow=True,
    ),
    "bert": Case(bert, texts, PLAIN),
    "simcse": Case(simcse, texts, PLAIN),
    "simcse in micro-batches": Case(
        # Eight devices cut micro-batches from other rows, which get other masks.
        lambda: simcse(dropout=0.0, micro_batch=BATCH // 2),
        texts,
        PLAIN,
        slow=True,
    ),
}

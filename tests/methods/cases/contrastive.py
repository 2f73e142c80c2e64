"""InfoNCE on its three kinds of positives, CPC, SupCon, NNCLR, the memory bank."""

import jax.numpy as jnp
import numpy as np

from cases import BATCH, PLAIN, Case, nets
from rl_jax import methods, networks


def sequences(seed=0):
    """A batch of sequences [16, 20, 3]."""
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.asarray(rng.permutation(100)[:BATCH], jnp.int32),
        "sequence": jnp.asarray(rng.normal(size=(BATCH, 20, 3)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, BATCH), jnp.int32),
    }


def pairs(seed=0):
    """A batch of pairs of arrays [16, 6]."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, BATCH, 6))
    return {
        "index": jnp.asarray(rng.permutation(100)[:BATCH], jnp.int32),
        "image": jnp.asarray(image[0], jnp.float32),
        "pair": jnp.asarray(image.sum(0), jnp.float32),
    }


def windows(**arguments):
    return methods.info_nce(
        *nets(), positives="temporal", window=4, gap=(0, 3), **arguments
    )


def predictive():
    encoder = networks.mlp(features=(16,), out=12)
    return methods.cpc(encoder, networks.gru(hidden=10), window=4, horizon=2)


CASES = {
    "info_nce": Case(lambda: methods.info_nce(*nets())),
    "info_nce temporal": Case(windows, sequences, PLAIN),
    "info_nce temporal one way": Case(
        lambda: windows(symmetric=False), sequences, PLAIN, slow=True
    ),
    "info_nce paired": Case(
        lambda: methods.info_nce(*nets(), positives="paired"), pairs, PLAIN, slow=True
    ),
    "cpc": Case(predictive, sequences, PLAIN),
    "memory_bank": Case(
        lambda: methods.memory_bank(*nets(), num_examples=100, negatives=64)
    ),
    "memory_bank of few": Case(
        lambda: methods.memory_bank(*nets(), num_examples=100), slow=True
    ),
    "nnclr": Case(lambda: methods.nnclr(*nets(True), queue_size=40, temperature=0.5)),
    "nnclr in micro-batches": Case(
        lambda: methods.nnclr(
            *nets(True, batch_norm=False), queue_size=40, micro_batch=BATCH // 2
        ),
        slow=True,
    ),
    "sup_con": Case(lambda: methods.sup_con(*nets())),
}

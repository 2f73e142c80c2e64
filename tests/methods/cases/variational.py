"""VAE, iVAE, and the variational information bottleneck."""

import jax.numpy as jnp
import numpy as np

from cases import BATCH, PLAIN, Case, images
from rl_jax import methods, networks

PIXELS = 64


def encoder():
    return networks.mlp(features=(16,), out=16)


def decoder(out=PIXELS):
    return networks.mlp(features=(16,), out=out)


def mixtures(seed=0):
    """Points with the segment they come from."""
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.asarray(rng.permutation(100)[:BATCH], jnp.int32),
        "image": jnp.asarray(rng.normal(size=(BATCH, 6)), jnp.float32),
        "label": jnp.full(BATCH, -1, jnp.int32),
        "u": jnp.asarray(rng.integers(0, 3, BATCH), jnp.int32),
    }


def some_labels(seed=0):
    batch = images(seed)
    return batch | {"label": batch["label"].at[:5].set(-1)}


CASES = {
    "vae": Case(lambda: methods.vae(encoder(), decoder(), latent=4)),
    "vae bernoulli": Case(
        lambda: methods.vae(
            encoder(),
            decoder(),
            latent=4,
            likelihood="bernoulli",
            beta=2.0,
            beta_warmup=5,
            free_bits=0.1,
        ),
        slow=True,
    ),
    "ivae": Case(
        lambda: methods.ivae(encoder(), decoder(6), num_segments=3, latent=2),
        batch=mixtures,
        augment=PLAIN,
    ),
    "vib": Case(
        lambda: methods.vib(encoder(), num_classes=4, latent=4), batch=some_labels
    ),
    "contrastive_vib": Case(lambda: methods.contrastive_vib(encoder(), latent=4)),
}

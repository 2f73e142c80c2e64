"""Linear, plain, denoising and sparse autoencoders."""

from cases import Case
from rl_jax import methods, networks

PIXELS = 64


def nets(out=8):
    encoder = networks.mlp(features=(16,), out=out)
    return encoder, networks.mlp(features=(16,), out=PIXELS)


def sparse(**arguments):
    return methods.sparse_autoencoder(networks.mlp(features=(), out=16), **arguments)


CASES = {
    "linear_autoencoder": Case(lambda: methods.linear_autoencoder(code=4)),
    "autoencoder": Case(lambda: methods.autoencoder(*nets())),
    "autoencoder by cross-entropy": Case(
        lambda: methods.autoencoder(*nets(), error="cross_entropy"), slow=True
    ),
    "denoising_autoencoder": Case(lambda: methods.denoising_autoencoder(*nets(16))),
    "denoising_autoencoder of masked images": Case(
        lambda: methods.denoising_autoencoder(*nets(16), noise=0.0, masked=0.25),
        slow=True,
    ),
    "sparse_autoencoder": Case(lambda: sparse(dead_after=1)),
    "sparse_autoencoder kl": Case(lambda: sparse(penalty="kl"), slow=True),
    "sparse_autoencoder top_k": Case(lambda: sparse(penalty="top_k", k=4), slow=True),
}

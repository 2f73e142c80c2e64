"""SimSiam: predict another view's embedding, without negatives or a moving average."""

import jax

from rl_jax import networks
from rl_jax.losses import negative_cosine
from rl_jax.methods import noise, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network


def simsiam(
    encoder: Network,
    projector: Network,
    predictor: Network,
    *,
    stop_gradient: bool = True,
    micro_batch: int | None = None,
) -> Method:
    """Simple siamese representations (Chen & He 2021, arXiv:2011.10566).

    ½ D(q(z_a), sg z_b) + ½ D(q(z_b), sg z_a), D the negative cosine: BYOL whose target
    is the network itself. Only the stop-gradient keeps it from collapsing. Batch
    statistics are those of both views; the authors pass each by itself.

    Args:
      encoder: f, images to representations h.
      projector: g, h to embeddings z; the authors' has three layers and a final
        BatchNorm.
      predictor: q, z to predictions; the authors' is a bottleneck of a quarter of z.
      stop_gradient: False lets the gradient into the target too: all embeddings become
        one (`z_std` → 0), unless BatchNorm on z hides it.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h` and `z`; its loss is in [−1, 1].

    Raises:
      UsageError: for a micro-batch that batch, devices or encoder do not allow.
    """
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch, views=2)
    everything = networks.chain(
        encoder=encoder, projector=projector, predictor=predictor
    )

    def init(rng, batch):
        return everything.init(rng, tower.two_views(batch)[:, 0])

    def loss(params, state, batch, rng):
        rng_tower, rng_predictor = noise.keys(rng, 2)
        x = tower.flatten_views(tower.two_views(batch))
        out, new_state = tower.apply(
            encoder, projector, params, state, x, train=True, rng=rng_tower
        )
        p, head_state = predictor.apply(
            params["predictor"],
            state["predictor"],
            out["z"],
            train=True,
            rng=rng_predictor,
        )
        features = {name: tower.split_views(v, 2) for name, v in out.items()}
        p, z = tower.split_views(p, 2), features["z"]
        if stop_gradient:
            z = jax.lax.stop_gradient(z)
        value = negative_cosine(p[:, 0], z[:, 1]) / 2
        value += negative_cosine(p[:, 1], z[:, 0]) / 2
        state = new_state | {"predictor": head_state}
        return value, Aux(state, {}, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state, x)

    return Method(init, loss, encode)

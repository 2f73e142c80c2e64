"""Two views through one network: what SimCLR shares with its relatives."""

from collections.abc import Callable, Sequence

import chex
import jax

from rl_jax.methods import tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network


def joint_embedding(
    encoder: Network,
    projector: Network,
    criterion: Callable[..., chex.Array],
    *,
    given: Sequence[str] = (),
    measure: Callable[[chex.Array, chex.Array], dict[str, chex.Array]] | None = None,
    micro_batch: int | None = None,
) -> Method:
    """The method whose loss is `criterion(z_a, z_b, …)` on the embeddings of two views.

    Both views pass through the network as one batch, so batch statistics are those of
    both.

    Args:
      encoder: f, images [N, H, W, C] to representations h [N, D].
      projector: g, h to embeddings z [N, d]; discarded after training.
      criterion: of two [B, d] arrays and the entries `given`; a scalar.
      given: entries of the batch that the criterion reads, `label` say.
      measure: of the same two; scalars to log.
      micro_batch: examples whose activations of the encoder are held at a time; None:
        all. The gradient is the same; the projector always sees the whole batch, and
        may have BatchNorm.

    Returns:
      A method with `encode` names `h` and `z`.

    Raises:
      UsageError: as `micro_batched` does, from `init` on.
    """
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch, views=2)

    def init(rng, batch):
        return tower.init(encoder, projector, rng, tower.two_views(batch)[:, 0])

    def loss(params, state, batch, rng):
        x = tower.flatten_views(tower.two_views(batch))
        out, state = tower.apply(
            encoder, projector, params, state, x, train=True, rng=rng
        )
        features = {name: tower.split_views(v, 2) for name, v in out.items()}
        z = features["z"]
        value = criterion(z[:, 0], z[:, 1], *(batch[name] for name in given))
        metrics = {} if measure is None else measure(z[:, 0], z[:, 1])
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state, x)

    return Method(init, loss, encode)

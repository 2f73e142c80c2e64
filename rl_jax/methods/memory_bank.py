"""Instance discrimination: find your own past among the past of others."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import pairwise
from rl_jax.errors import UsageError
from rl_jax.losses import normalize
from rl_jax.memory import ema
from rl_jax.methods import arguments, inputs, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Aux, Method, Network, State


class MemoryBankState(NamedTuple):
    """Carried from step to step.

    Attributes:
      network: batch statistics.
      rows: [n, D] float32, the embedding of each example as it was, of unit length.
      seen: bool [n], which rows have been written.
    """

    network: State
    rows: chex.Array
    seen: chex.Array


def memory_bank(
    encoder: Network,
    projector: Network,
    *,
    num_examples: int,
    temperature: float = 0.07,
    momentum: float = 0.5,
    negatives: int = 4096,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """Instance discrimination with a memory bank (Wu et al. 2018, arXiv:1805.01978).

    The bank b holds a row for each of the n examples. With z = norm(g(f(x_i))), one
    view of each image being enough, the mean over the batch of

      log[exp(⟨z, b_i⟩/τ) + Σ_{j∈S, j≠i} exp(⟨z, b_j⟩/τ)] − ⟨z, b_i⟩/τ,

    S a sample of the bank drawn anew at each step, with replacement; then
    b_i ← norm(m·b_i + (1 − m)·z). The authors approximate the softmax over the bank by
    noise-contrastive estimation with as many samples; this is the softmax over the
    sample. A row not yet written does not count: neither as a negative, nor does its
    example in the mean, whose first visit only writes z. The loss of the first steps is
    therefore 0.

    Args:
      encoder: f, images to representations h.
      projector: g, h to embeddings z; discarded afterwards.
      num_examples: n; `index` is in [0, n), and names an example once in a batch.
      temperature: softmax temperature τ > 0.
      momentum: m in [0, 1], what a row keeps.
      negatives: size of S; where the bank has no more rows, S is all of them, once.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method with `encode` names `h` and `z`. Metrics: `bank_seen`, the share of rows
      written; `softmax_entropy` and `max_softmax`, over S, see `sharpness`.

    Raises:
      UsageError: for values out of range, a batch larger than the bank, or a
        micro-batch that batch, devices or encoder do not allow. An index beyond the
        bank, which no shape tells, makes the loss NaN.
    """
    arguments.at_least("memory_bank", 2, num_examples=num_examples)
    arguments.positive("memory_bank", temperature=temperature)
    arguments.shares("memory_bank", momentum=momentum)
    arguments.at_least("memory_bank", 1, negatives=negatives)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)

    forward = functools.partial(tower.apply, encoder, projector)

    def init(rng, batch):
        index = inputs.take("memory_bank", batch, "index")
        if len(index) > num_examples:
            raise UsageError(
                f"memory_bank: num_examples={num_examples} is less than the batch of "
                f"{len(index)}; give the number of examples of the data"
            )
        x = inputs.one_view("memory_bank", batch)
        params, state = tower.init(encoder, projector, rng, x)
        out, _ = jax.eval_shape(
            functools.partial(forward, train=False), params, state, x
        )
        rows = jnp.zeros((num_examples, out["z"].shape[-1]), jnp.float32)
        return params, MemoryBankState(state, rows, jnp.zeros(num_examples, bool))

    def sample(rng):
        if negatives >= num_examples:
            return jnp.arange(num_examples, dtype=jnp.int32)
        return jax.random.randint(rng, (negatives,), 0, num_examples)

    def loss(params, state, batch, rng):
        index = inputs.take("memory_bank", batch, "index")
        x = inputs.one_view("memory_bank", batch)
        out, network = forward(params, state.network, x, train=True, rng=rng)
        z, own, known = normalize(out["z"]), state.rows[index], state.seen[index]

        chosen = sample(rng)
        # Rows that count come first, for `valid`.
        chosen = chosen[jnp.argsort(~state.seen[chosen], stable=True)]
        drawn, valid = state.rows[chosen], jnp.sum(state.seen[chosen], dtype=jnp.int32)
        others = pairwise.logsumexp(
            z,
            drawn,
            scale=1 / temperature,
            valid=valid,
            exclude=index,
            group=chosen,
            precision=precision,
            max_norm=1.0,
        )
        positive = jnp.sum(z * own, axis=1) / temperature
        terms = jnp.where(known, jnp.logaddexp(positive, others) - positive, 0.0)
        value = jnp.sum(terms) / jnp.maximum(known.sum(), 1)
        inside = jnp.all((index >= 0) & (index < num_examples))
        value = jnp.where(inside, value, jnp.nan)

        new = jax.lax.stop_gradient(z)
        moved = normalize(ema(own, new, momentum))
        rows = state.rows.at[index].set(jnp.where(known[:, None], moved, new))
        seen = state.seen.at[index].set(True)
        metrics = {"bank_seen": jnp.mean(seen, dtype=jnp.float32)} | sharpness(
            z, drawn, scale=1 / temperature, own=own, valid=valid
        )
        features = {name: v[:, None] for name, v in out.items()}
        state = MemoryBankState(network, rows, seen)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state.network, x)

    return Method(init, loss, encode)

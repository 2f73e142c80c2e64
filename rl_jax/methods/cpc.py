"""CPC: predict what comes next in a sequence, among what does not."""

import math

import jax
import jax.numpy as jnp

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.methods import arguments, inputs, noise
from rl_jax.methods.sharpness import sharpness
from rl_jax.methods.windows import cut
from rl_jax.pairwise import Precision
from rl_jax.types import Aux, Method, Network


def cpc(
    encoder: Network,
    context: Network,
    *,
    window: int = 8,
    horizon: int = 4,
    temperature: float = 0.1,
    precision: Precision | None = None,
) -> Method:
    """Contrastive predictive coding (van den Oord et al. 2018, arXiv:1807.03748).

    A sequence is cut into windows; z_t encodes window t, and the context c_t sums up
    z_1 … z_t. For each k up to the horizon, c_t finds z_{t+k} among the codes of
    all sequences of the batch and all their times t' > k:

      1/K Σ_k mean_{i,t} [log Σ_{j,t'} exp(s(p, z_jt')/τ) − s(p, z_i,t+k)/τ]

    with p = W_k c_it a linear layer, s the cosine. The negatives of the same sequence
    make the code tell one time from another, those of others one sequence from another.
    (The authors' scores are inner products; the range of these is the temperature's.)

    Args:
      encoder: f, windows [N, window, F] to codes z [N, D].
      context: [B, T', D] to contexts [B, T', C], causal: step t sees codes up to t.
      window: steps of a window, ≥ 1; T' = ⌊T / window⌋, the rest is left out.
      horizon: K ≥ 1, how many windows ahead; below T'.
      temperature: softmax temperature τ > 0.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method with `encode` names `h`, the mean context over time, and `z`, the mean
      code. The metric `information_k` is log(number of candidates) − loss of step k, a
      lower bound on the mutual information of context and code, in nats;
      `softmax_entropy` and `max_softmax` of step 1, see `sharpness`.

    Raises:
      UsageError: for values out of range, a batch without `sequence`, or sequences of
        no more than `horizon` windows.
    """
    arguments.positive("cpc", temperature=temperature)
    arguments.at_least("cpc", 1, window=window, horizon=horizon)

    def windows(batch):
        sequence = inputs.take("cpc", batch, "sequence")
        x = cut(sequence, window)
        if x.shape[1] <= horizon:
            steps = sequence.shape[1]
            raise UsageError(
                f"cpc: a horizon of {horizon} needs at least {horizon + 1} windows of "
                f"{window} steps, got sequences of {steps}; use a smaller window or "
                "horizon"
            )
        return x

    def predictor(dim):
        return networks.linear(out=horizon * dim)

    def forward(params, state, x, *, train, rng=None):
        rng_encoder, rng_context = noise.keys(rng, 2)
        batch, times = x.shape[:2]
        rows = x.reshape(-1, *x.shape[2:])
        z, encoder_state = encoder.apply(
            params["encoder"], state["encoder"], rows, train=train, rng=rng_encoder
        )
        z = z.reshape(batch, times, -1)
        c, context_state = context.apply(
            params["context"], state["context"], z, train=train, rng=rng_context
        )
        return z, c, {"encoder": encoder_state, "context": context_state}

    def init(rng, batch):
        x = windows(batch)
        rngs = jax.random.split(rng, 3)
        f, f_state = encoder.init(rngs[0], x[:, 0])
        one = jax.eval_shape(
            lambda p, s, x: encoder.apply(p, s, x, train=False)[0], f, f_state, x[:, 0]
        )
        z = jnp.zeros((*x.shape[:2], one.shape[-1]), one.dtype)
        g, g_state = context.init(rngs[1], z)
        c = jax.eval_shape(
            lambda p, s, z: context.apply(p, s, z, train=False)[0], g, g_state, z
        )
        heads, _ = predictor(z.shape[-1]).init(rngs[2], jnp.zeros(c.shape[1:], c.dtype))
        params = {"encoder": f, "context": g, "predictor": heads}
        return params, {"encoder": f_state, "context": g_state}

    def loss(params, state, batch, rng):
        x = windows(batch)
        z, c, state = forward(params, state, x, train=True, rng=rng)
        size, times, dim = z.shape
        guess, _ = predictor(dim).apply(
            params["predictor"], {}, c.reshape(-1, c.shape[-1]), train=True
        )
        guess = guess.reshape(size, times, horizon, dim)
        total, metrics = 0.0, {}
        for k in range(1, horizon + 1):
            query = guess[:, :-k, k - 1].reshape(-1, dim)
            key = z[:, k:].reshape(-1, dim)
            value = losses.info_nce(
                query, key, temperature=temperature, precision=precision
            )
            total += value / horizon
            metrics[f"information_{k}"] = math.log(len(key)) - value
            if k == 1:
                metrics |= sharpness(query, key, scale=1 / temperature)
        features = {"h": c.mean(1, keepdims=True), "z": z.mean(1, keepdims=True)}
        return total, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = windows(batch)
        z, c, _ = forward(params, state, x, train=False)
        rows = x.reshape(-1, *x.shape[2:])
        layers = networks.layers_of(encoder, params["encoder"], state["encoder"], rows)
        means = {k: v.reshape(*x.shape[:2], -1).mean(1) for k, v in layers.items()}
        return {"h": c.mean(1), "z": z.mean(1)} | means

    return Method(init, loss, encode)

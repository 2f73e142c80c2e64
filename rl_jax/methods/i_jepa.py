"""I-JEPA: what a slowly moving encoder makes of blocks of an image, from the rest."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.memory import linear_decay
from rl_jax.methods import arguments, blocks, inputs, masking, momentum, noise
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network, Params, State


class IJEPAState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of encoder and predictor.
      target: parameters of the target encoder, the moving average; no predictor.
      target_state: its batch statistics, an average too.
      step: int32, steps taken; drives the decay.
    """

    online: State
    target: Params
    target_state: State
    step: chex.Array


def i_jepa(
    encoder: Network,
    predictor: Network,
    *,
    total_steps: int,
    targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
    context_share: float = 0.25,
    decay: float = 0.996,
    micro_batch: int | None = None,
) -> Method:
    """Image-based joint-embedding predictive architecture (Assran et al. 2023).

    arXiv:2301.08243. The mean over M blocks and their patches j of
    smooth_L1(p(s_c, j) − LN(s̄_j)): s_c are the tokens of a context block without the
    targets' patches, which alone enter the encoder; p predicts each block by itself,
    from a mask token for each place; s̄ is what the target encoder makes of the whole
    image, each token with its own mean and deviation taken away, and constant. The
    target encoder follows with τ_t = τ₀ + (1 − τ₀)·t/T, at the start of a step with
    the decay of the step before: the authors' update after that step.

    Blocks are drawn as the authors' `MaskCollator` does, but for four things, of which
    the last two bring shapes that do not depend on the draw. Theirs have scale and
    aspect by one number, so that large blocks are the tall ones; ours draw each by
    itself. Theirs never reach the last row and column of patches; ours lie anywhere.
    Theirs cut the contexts of a batch to the smallest of them, and leave out the last
    rows for it; ours keep int(L·`context_share`) patches, drawn at random. Where a
    context has fewer, they draw again, and in the end let it overlap with targets; ours
    first goes beyond the context block, and patches of targets that it still has to see
    do not count. With the authors' numbers the smallest of 128 contexts of 14×14
    patches is a quarter of them.

    Args:
      encoder: images or `networks.Patches` to a token for each patch: `networks.vit`
        with pool="none".
      predictor: `networks.Masked` to a prediction for each patch of a block, as wide as
        the encoder's tokens: `networks.jepa_predictor`.
      total_steps: T of the decay schedule.
      targets: M ≥ 1, target blocks of an image; they may overlap.
      target_scale: least and largest share of the patches in a target block.
      target_aspect: least and largest height of a target block over its width, relative
        to the image's.
      context_scale: least and largest share of the patches in the context block, which
        is shaped like the image.
      context_share: share of the patches that enter the encoder, in (0, 1).
      decay: τ₀ in [0, 1].
      micro_batch: examples whose activations of encoder and predictor are held at a
        time, as in `simclr`; None: all.

    Returns:
      A method for the first of `views` where there are any, else for `image`. `encode`
      names `h`, the mean of the tokens of the whole image, and `target_h`, that of the
      target encoder, which the authors evaluate. Metrics: `ema_decay`;
      `target_spread`, the mean variance of a target's numbers over the batch: near 0
      where the encoder has collapsed, at most about 1; `explained`, the share of it
      that is predicted.

    Raises:
      UsageError: for values out of range; while tracing, for an encoder without a
        token for each patch, or too few patches; as `micro_batched` does.
    """
    arguments.shares("i_jepa", decay=decay)
    arguments.at_least("i_jepa", 1, total_steps=total_steps, targets=targets)
    blocks.check(
        "i_jepa",
        target_scale=target_scale,
        target_aspect=target_aspect,
        context_scale=context_scale,
    )
    if not 0 < context_share < 1:
        raise UsageError(
            f"i_jepa: context_share must be in (0, 1), got {context_share}"
        )
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)
        # Its rows are blocks.
        predictor = micro_batched(predictor, micro_batch * targets, role="predictor")
    cut = functools.partial(masking.cut, "i_jepa", encoder)

    def masks(rng, index, image, patch):
        grid = image.shape[1] // patch, image.shape[2] // patch
        return blocks.draw(
            rng,
            index,
            grid,
            kept=_patches_seen(grid[0] * grid[1], context_share),
            targets=targets,
            target_scale=target_scale,
            target_aspect=target_aspect,
            context_scale=context_scale,
        )

    def init(rng, batch):
        rng_encoder, rng_predictor = jax.random.split(rng)
        image = inputs.one_view("i_jepa", batch)
        params, state = {}, {}
        params["encoder"], state["encoder"] = encoder.init(rng_encoder, image)
        target, target_state = dict(params), dict(state)
        patch, patches = cut(params, state, image)
        index = jnp.zeros(image.shape[:1], jnp.int32)
        drawn = masks(rng_encoder, index, image, patch)
        seen = jax.tree.map(lambda x: masking.take(x, drawn.context), patches)
        run = functools.partial(encoder.apply, train=False)
        tokens, _ = jax.eval_shape(run, params["encoder"], state["encoder"], seen)
        x = _of_each_block(
            jnp.zeros(tokens.shape, tokens.dtype), patches.positions, drawn
        )
        params["predictor"], state["predictor"] = predictor.init(rng_predictor, x)
        step = jnp.zeros([], jnp.int32)
        return params, IJEPAState(state, target, target_state, step)

    def loss(params, state, batch, rng):
        rng_encoder, rng_predictor = noise.keys(rng, 2)
        tau = linear_decay(
            jnp.maximum(state.step - 1, 0), start=decay, total_steps=total_steps
        )
        target, target_state = momentum.follow(
            state.target,
            state.target_state,
            {"encoder": params["encoder"]},
            {"encoder": state.online["encoder"]},
            decay=tau,
            statistics="average",
        )
        image = inputs.one_view("i_jepa", batch)
        patch, patches = cut(params, state.online, image)
        drawn = masks(rng, batch["index"], image, patch)

        seen = jax.tree.map(lambda x: masking.take(x, drawn.context), patches)
        tokens, encoder_state = encoder.apply(
            params["encoder"],
            state.online["encoder"],
            seen,
            train=True,
            rng=rng_encoder,
        )
        predicted, predictor_state = predictor.apply(
            params["predictor"],
            state.online["predictor"],
            _of_each_block(tokens, patches.positions, drawn),
            train=True,
            rng=rng_predictor,
        )
        whole, _ = encoder.apply(
            target["encoder"], target_state["encoder"], image, train=False
        )
        # As the authors' `F.layer_norm`.
        goal = jax.nn.standardize(whole.astype(jnp.float32), epsilon=1e-5)
        goal = jax.lax.stop_gradient(goal)
        told = masking.take(goal, drawn.targets.reshape(len(image), -1))
        if predicted.size != told.size:
            raise UsageError(
                "i_jepa: predictor must give the encoder's width for each patch, "
                f"{goal.shape[-1]}, got {predicted.shape}; use a jepa_predictor"
            )
        predicted = predicted.reshape(told.shape)
        counts = drawn.counts.reshape(told.shape[:-1])
        value = losses.smooth_l1(predicted, told, counts)

        spread = jnp.mean(jnp.var(goal, axis=0))
        apart = jnp.mean(jnp.square(predicted - told), axis=-1)
        apart = jnp.sum(apart * counts) / jnp.maximum(jnp.sum(counts), 1)
        metrics = {
            "ema_decay": tau,
            "target_spread": spread,
            "explained": 1 - apart / jnp.maximum(spread, 1e-12),
        }
        online = {"encoder": encoder_state, "predictor": predictor_state}
        features = {"h": jnp.mean(tokens, axis=1, keepdims=True)}
        state = IJEPAState(online, target, target_state, state.step + 1)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        image = batch["image"]
        places = {
            "h": (params["encoder"], state.online["encoder"]),
            "target_h": (state.target["encoder"], state.target_state["encoder"]),
        }
        out = {
            name: jnp.mean(encoder.apply(*where, image, train=False)[0], axis=1)
            for name, where in places.items()
        }
        return out | networks.layers_of(encoder, *places["h"], image)

    return Method(init, loss, encode)


def _patches_seen(count: int, share: float) -> int:
    """int(L·share), the number of patches the encoder sees.

    Raises:
      UsageError: where that is none.
    """
    seen = int(count * share)
    if not seen:
        raise UsageError(
            f"i_jepa: context_share={share} leaves none of {count} patches in; use "
            "smaller patches or a larger share"
        )
    return seen


def _of_each_block(
    tokens: chex.Array, positions: chex.Array, drawn: blocks.Masks
) -> networks.Masked:
    """What the predictor gets, the M blocks of an example side by side: [B·M, ...]."""
    examples, count, width = drawn.targets.shape

    def repeated(x):
        return jnp.repeat(x, count, axis=0)

    masked = masking.take(positions, drawn.targets.reshape(examples, -1))
    return networks.Masked(
        repeated(tokens),
        repeated(masking.take(positions, drawn.context)),
        masked.reshape(examples * count, width, 2),
        drawn.counts.reshape(examples * count, width),
    )

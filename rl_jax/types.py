"""The records of the library: named tuples of pure functions, made by factories."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex

Params = State = chex.ArrayTree
Batch = dict[str, Any]
"""A dict of arrays. `index` int32 [B] always; `image` [B, H, W, C]; `label` int32
[B], -1 where unknown; after augmentation `views` [B, V, H, W, C], and with multi-crop
`local_views` [B, V', h, w, C], smaller crops of the same images."""


PADDING, UNKNOWN, MASK = 0, 1, 2
"""Ids in `tokens` that are no words; the first word of a vocabulary has id 3."""


class Network(NamedTuple):
    """A neural network as two pure functions.

    Attributes:
      init: `(rng, x) -> (params, state)`; `state` holds the batch statistics.
      apply: `(params, state, x, *, train, rng=None) -> (y, state)`.
      split: into how many contiguous groups of rows a training batch is cut, each
        with statistics of its own. 1: all rows share theirs, or, where `state` is
        empty, have none. It says what nothing else can: whether a batch may be run in
        parts. A network with a split > 1 takes `apply(..., parts=p)`: x is one p-th of
        a batch and holds split / p whole groups.
      layers: `(params, state, x) -> {"layer1": [B, D_1], ...}`, what each block gives
        in evaluation mode, in order of execution: float32, the mean over positions or
        tokens. None: the network tells nothing of them; `networks.layers_of` takes
        both.
    """

    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[chex.Array, State]]
    split: int = 1
    layers: Callable[..., dict[str, chex.Array]] | None = None


class Aux(NamedTuple):
    """What a method's loss returns beside the loss.

    Attributes:
      state: the method's state after this step.
      metrics: scalars to log.
      features: stop-gradient representations of this step, `h` and `z`
        [B, V, D], read by the online probe and the diagnostics.
    """

    state: State
    metrics: dict[str, chex.Array]
    features: dict[str, chex.Array]


class Method(NamedTuple):
    """A representation-learning method as three pure functions.

    Attributes:
      init: `(rng, batch) -> (params, state)`. `params` is what the optimizer
        trains; `state` is everything else carried from step to step: batch
        statistics, an EMA target, a queue, counters.
      loss: `(params, state, batch, rng) -> (loss, Aux)`. One call is one
        optimizer step.
      encode: `(params, state, batch) -> {name: [B, D]}` in evaluation mode:
        `h` is the headline representation (the head is discarded), `z` the
        embedding the loss saw, `layer1`, `layer2`, ... what the blocks of the encoder
        give, where it tells them.
      classes: C, where the loss takes labels in [0, C) and −1 alone. None: it takes
        any, or none. In a step a label beyond is a number that is not finite, so
        `train.fit` compares it with the data before.
      network: whose `h`, `z` and layers are those of `encode`: "online", the network
        that the gradient trains. Any other name is what a method calls the moving
        average of it that its authors evaluate (`teacher` of DINO), kept in its state
        as `target` and `target_state`; `online_h` then stands beside. It is what
        `rl_jax.run` evaluates, embeds, exports and starts other runs with.
    """

    init: Callable[[chex.PRNGKey, Batch], tuple[Params, State]]
    loss: Callable[[Params, State, Batch, chex.PRNGKey], tuple[chex.Array, Aux]]
    encode: Callable[[Params, State, Batch], dict[str, chex.Array]]
    classes: int | None = None
    network: str = "online"


class Augment(NamedTuple):
    """An augmentation as two pure functions, both run inside the compiled step.

    Attributes:
      views: `(rng, batch) -> batch` with `views` [B, V, H, W, C] float32 added (and
        `local_views` by some) and `image` replaced by `clean(image)`. The randomness of
        example i is `fold_in(rng, index[i])`: it does not depend on the position in the
        batch or on the number of devices.
      clean: `(image) -> [B, H, W, C]` float32: the standardised image that
        evaluation sees.
      unit_range: whether `views` keeps to [0, 1] and so would cut off what other
        images of floating point hold, which `train.fit` then refuses.
    """

    views: Callable[[chex.PRNGKey, Batch], Batch]
    clean: Callable[[chex.Array], chex.Array]
    unit_range: bool = False


class TrainState(NamedTuple):
    """Everything a run carries from step to step; exactly what is checkpointed."""

    step: chex.Array
    rng: chex.PRNGKey
    params: Params
    state: State
    opt_state: Any

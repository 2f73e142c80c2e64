"""What iBOT and DINOv2 share: class tokens of views, and patches hidden in them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import losses, networks
from rl_jax.errors import UsageError
from rl_jax.losses import prototype_scores
from rl_jax.methods import arguments, hiding, masking, momentum, noise, tower
from rl_jax.methods import prototypes as shared
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network, Params, State


class DistillationState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of the student.
      target: parameters of the teacher, the moving average of all of the student's but
        the mask token, which it never sees.
      target_state: its batch statistics, an average too.
      centre: moving means of the teacher's scores, [K] each; {} where there are none.
      step: int32, steps taken; drives decay and temperature.
    """

    online: State
    target: Params
    target_state: State
    centre: dict[str, chex.Array]
    step: chex.Array


class Told(NamedTuple):
    """What the teacher makes of the two large views, none of which is hidden from it.

    Attributes:
      cls: [B, 2, K], scores of the class tokens.
      patches: [2B, M, D], z of the patches that are hidden from the student.
      prototypes: [K, D], those of patches.
      weight: bool [2B, M], which of these are hidden; the others only fill up.
      mean: [K], the mean score of all patches; None where there are no centres.
      step: int32, steps taken.
    """

    cls: chex.Array
    patches: chex.Array
    prototypes: chex.Array
    weight: chex.Array
    mean: chex.Array | None
    step: chex.Array


class Wanted(NamedTuple):
    """What the student is to learn of it.

    Attributes:
      cls: [B, 2, K], distributions of the class tokens.
      temperature: of these.
      patch_centre: [K], taken from the scores of patches.
      patch_temperature: by which they are divided then, before their softmax.
      centre: the new moving means.
    """

    cls: chex.Array
    temperature: chex.Numeric
    patch_centre: chex.Array
    patch_temperature: chex.Numeric
    centre: dict[str, chex.Array]


Targets = Callable[[Told, dict[str, chex.Array]], Wanted]


def self_distillation(
    factory: str,
    encoder: Network,
    projector: Network,
    targets: Targets,
    *,
    centred: bool,
    total_steps: int,
    prototypes: int,
    shared_head: bool,
    student_temperature: float,
    mask_ratio: tuple[float, float],
    mask_probability: float,
    smallest_block: int | None,
    decay: float,
    frozen_steps: int,
    koleo_weight: float = 0.0,
    micro_batch: int | None = None,
) -> Method:
    """The method whose student learns `targets`: of class tokens and hidden patches.

    Args:
      factory: of the method, for its errors.
      encoder: f, images or `networks.Patches` to a class token and one for each patch.
      projector: g, tokens to the bottleneck z of a head.
      targets: what the teacher tells, and the centres, to what is wanted. Of patches no
        distributions, which would be [2B, M, K]: only what makes them of scores.
      centred: whether there are centres, `cls` and `patch`.
      smallest_block: area in patches, at least, of what is hidden at a time; None: the
        square of a third of the grid's shorter side.
      total_steps, prototypes, shared_head, student_temperature, mask_ratio,
        mask_probability, decay, frozen_steps, micro_batch: as in `ibot`.
      koleo_weight: as in `dino_v2`.

    Raises:
      UsageError: for values out of range; from `init` on, for other than two large
        views, an encoder without these tokens or one that does not take the crops; as
        `micro_batched` does.
    """
    arguments.at_least(factory, 1, total_steps=total_steps)
    arguments.at_least(factory, 2, prototypes=prototypes)
    arguments.at_least(factory, 0, frozen_steps=frozen_steps)
    arguments.positive(factory, student_temperature=student_temperature)
    arguments.shares(factory, mask_probability=mask_probability, decay=decay)
    arguments.not_negative(factory, koleo_weight=koleo_weight)
    hiding.check(factory, mask_ratio)
    of_class = _class_token(factory, encoder)
    cut = functools.partial(masking.cut, factory, encoder, cls=True)
    own = "" if shared_head else "patch_"

    def in_parts(network, views):
        """The network as it is trained."""
        if micro_batch is None:
            return network
        return micro_batched(network, micro_batch, views=views)

    def of_grid(side, image):
        """Rows and columns of patches, the smallest block, and the most hidden."""
        grid = image.shape[1] // side, image.shape[2] // side
        third = min(grid) // 3
        least = third * third if smallest_block is None else smallest_block
        most = hiding.most_hidden(factory, grid, mask_ratio, max(least, 1))
        return grid, least, most

    def init(rng, batch):
        rng_tower, rng_cls, rng_head, rng_patch = jax.random.split(rng, 4)
        x = tower.two_views(batch)[:, 0]
        params, state = tower.init(
            of_class, projector, rng_tower, x, micro_batch=micro_batch
        )
        if koleo_weight and len(x) < 2:
            raise UsageError(
                f"{factory}: koleo_weight={koleo_weight} needs a batch of at least 2, "
                f"got {len(x)}; make it larger, or koleo_weight 0"
            )
        side, _ = cut(params, state, x)
        of_grid(side, x)
        # An encoder of one size is told of smaller crops before anything is computed.
        run = functools.partial(tower.apply_crops, of_class, projector, train=False)
        out, _ = jax.eval_shape(run, params, state, batch)
        width, dim = (out[name].shape[-1] for name in ("h", "z"))
        params["prototypes"] = shared.init(rng_cls, prototypes, dim)
        if not shared_head:
            head = projector.init(rng_head, jnp.zeros((1, width), out["h"].dtype))
            params["patch_projector"], state["patch_projector"] = head
            params["patch_prototypes"] = shared.init(rng_patch, prototypes, dim)
        target, target_state = dict(params), dict(state)
        # As the authors' begins.
        params["mask"] = jnp.zeros(width, jnp.float32)
        names = ("cls", "patch") if centred else ()
        centre = {name: jnp.zeros(prototypes, jnp.float32) for name in names}
        step = jnp.zeros([], jnp.int32)
        return params, DistillationState(state, target, target_state, centre, step)

    def embed(params, state, cls, patches, *, train, rng=None):
        """Bottlenecks of class tokens [B, V, D] and patches [2B, M, D]; new state."""
        project = functools.partial(_project, projector, params, train=train)
        if shared_head:
            # What belongs to an example stays together.
            rows = patches.reshape(len(cls), -1, patches.shape[-1])
            rows = jnp.concatenate([cls, rows], axis=1)
            z, state = project(state, "projector", rows, rng=rng)
            of_class, of_patches = jnp.split(z, [cls.shape[1]], axis=1)
            return of_class, of_patches.reshape(*patches.shape[:2], -1), state
        rng_cls, rng_patch = noise.keys(rng, 2)
        z, state = project(state, "projector", cls, rng=rng_cls)
        z_patch, state = project(state, "patch_projector", patches, rng=rng_patch)
        return z, z_patch, state

    def student(params, state, batch, patches, hidden, places, rng):
        """Class tokens and z of all views, z of hidden patches, and the new state."""
        rng_large, rng_local, rng_heads = noise.keys(rng, 3)
        # An encoder that knows of no mask token sees nothing of them either.
        values = jnp.where(hidden[..., None], 0.0, patches.values)
        x = networks.Patches(values, patches.positions, hidden, params["mask"])
        tokens, seen = in_parts(encoder, 2).apply(
            params["encoder"], state["encoder"], x, train=True, rng=rng_large
        )
        cls = tower.split_views(tokens[:, 0], 2)
        if "local_views" in batch:
            local = batch["local_views"]
            small, seen = in_parts(of_class, local.shape[1]).apply(
                params["encoder"],
                seen,
                tower.flatten_views(local),
                train=True,
                rng=rng_local,
            )
            small = tower.split_views(small, local.shape[1])
            cls = jnp.concatenate([cls, small], axis=1)
        of_hidden = masking.take(tokens[:, 1:], places)
        state = state | {"encoder": seen}
        z, z_patch, state = embed(
            params, state, cls, of_hidden, train=True, rng=rng_heads
        )
        return cls, z, z_patch, state

    def teacher(target, target_state, large, places, weight, step):
        """What the targets are made of."""
        tokens, _ = encoder.apply(
            target["encoder"], target_state["encoder"], large, train=False
        )
        cls = tower.split_views(tokens[:, 0], 2)
        patches = tokens[:, 1:] if centred else masking.take(tokens[:, 1:], places)
        z, z_patch, _ = embed(target, target_state, cls, patches, train=False)
        words, mean = target[f"{own}prototypes"], None
        if centred:
            # The mean of cosines is the product of means: all scores are never held.
            mean = jnp.einsum(
                "d,kd->k",
                jnp.mean(losses.normalize(z_patch), (0, 1)),
                losses.normalize(words),
                precision="highest",
            )
            z_patch = masking.take(z_patch, places)
        return Told(
            prototype_scores(z, target["prototypes"]),
            z_patch, words, weight, mean, step,
        )  # fmt: skip

    def loss(params, state, batch, rng):
        tau = momentum.decay_before(state.step, start=decay, total_steps=total_steps)
        target, target_state = momentum.follow(
            state.target,
            state.target_state,
            {name: params[name] for name in state.target},
            state.online,
            decay=tau,
            statistics="average",
        )
        large = tower.flatten_views(tower.two_views(batch))
        side, patches = cut(params, state.online, large)
        grid, least, most = of_grid(side, large)
        hidden = hiding.draw(
            rng,
            batch["index"],
            grid,
            views=2,
            probability=mask_probability,
            ratio=mask_ratio,
            least=least,
        ).reshape(len(large), -1)
        places, weight = hiding.places(hidden, most)

        cls, z, z_patch, online = student(
            params, state.online, batch, patches, hidden, places, rng
        )
        told = teacher(target, target_state, large, places, weight, state.step)
        wanted = targets(told, state.centre)

        def learned(name):
            return shared.frozen(params[name], state.step, frozen_steps)

        of_patches = losses.patch_distillation(
            z_patch,
            learned(f"{own}prototypes"),
            told.patches,
            told.prototypes,
            weight,
            centre=wanted.patch_centre,
            temperature=student_temperature,
            target_temperature=wanted.patch_temperature,
        )
        logits = prototype_scores(z, learned("prototypes")) / student_temperature
        value = losses.swapped_cross_entropy(wanted.cls, logits) + of_patches.loss
        metrics = {
            "ema_decay": tau,
            "teacher_temperature": jnp.asarray(wanted.temperature, jnp.float32),
            "patch_loss": of_patches.loss,
            "hidden": jnp.mean(hidden.astype(jnp.float32)),
            **shared.entropies(wanted.cls, wanted.cls),
        }
        found = shared.shares(of_patches.target_entropy, of_patches.usage)
        metrics |= {f"patch_{name}": v for name, v in found.items()}
        if koleo_weight:
            # Of each view by itself: two views of an image are to be close.
            close = losses.koleo(cls[:, 0]) + losses.koleo(cls[:, 1])
            value += koleo_weight * close
            metrics["koleo"] = close / 2
        features = jax.lax.stop_gradient({"h": cls[:, :2], "z": z[:, :2]})
        state = DistillationState(
            online, target, target_state, wanted.centre, state.step + 1
        )
        return value, Aux(state, metrics, features)

    encode = functools.partial(momentum.encode, of_class, projector)
    return Method(init, loss, encode)


def _class_token(factory: str, encoder: Network) -> Network:
    """The encoder as one that gives the class token alone."""

    def apply(params, state, x, *, train, rng=None, **more):
        tokens, state = encoder.apply(params, state, x, train=train, rng=rng, **more)
        if tokens.ndim != 3:
            raise UsageError(
                f"{factory}: encoder must give a class token and one for each patch, "
                f'[B, 1 + L, D], got {tokens.shape}; use a vit with pool="all"'
            )
        return tokens[:, 0], state

    return encoder._replace(apply=apply)


def _project(projector, params, state, name, x, *, train, rng):
    """What a head makes of tokens [N, M, D], and the state with the head's new one."""
    z, new = projector.apply(
        params[name], state[name], x.reshape(-1, x.shape[-1]), train=train, rng=rng
    )
    return z.reshape(*x.shape[:2], -1), state | {name: new}

"""One training step, the same for every method."""

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.methods.probe import of_method
from rl_jax.train.nonfinite import inexact
from rl_jax.types import Augment, Batch, Method, TrainState

PARTS = ("params", "state", "opt_state")
"""What a step changes."""

RESERVED = frozenset(
    ["loss", "grad_norm", "nonfinite", "nonfinite_leaf"]
    + ["learning_rate", "step", "time", "images_per_second", "data_wait"]
)
"""Names of metrics that the step and the loop give themselves."""


def step_keys(rng: chex.PRNGKey, step: chex.Numeric):
    """The keys of the augmentation and of the loss at `step`."""
    return jax.random.split(jax.random.fold_in(rng, step))


def init_train_state(
    rng: chex.PRNGKey,
    batch: Batch,
    *,
    method: Method,
    augment: Augment,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """The state before the first step.

    Args:
      rng: key of the run.
      batch: a raw batch as `train_step` takes it; its shapes matter, little else.
      method, augment, optimizer: as in `train_step`.
    """
    # A step no run reaches, so that its keys are those of no step.
    rng_views, rng_init = step_keys(rng, jnp.uint32(2**32 - 1))
    params, state = method.init(rng_init, augment.views(rng_views, batch))
    step = jnp.zeros([], jnp.int32)
    return TrainState(step, rng, params, state, optimizer.init(params))


def train_step(
    ts: TrainState,
    batch: Batch,
    *,
    method: Method,
    augment: Augment,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict]:
    """Augmentation, forward, loss, gradient and update: one optimizer step.

    Where the loss, the gradient or the new state is not finite, everything the step
    would have changed keeps its old value (parameters, statistics, targets, queues,
    optimizer), the step count goes on and the metric `nonfinite` is 1. The metric
    `nonfinite_leaf` is the place of the first that was not in `nonfinite.leaf_names`,
    -1 where all was.

    Args:
      ts: the state before the step.
      batch: raw batch: `index` [B], `image` [B, H, W, C] uint8 or float, `label` [B].
      method, augment, optimizer: the pieces.

    Returns:
      The state after the step, and scalar metrics: those of the method, `loss`,
      `grad_norm` (of the method's parameters, an online probe's not among them),
      `nonfinite`, `nonfinite_leaf` and the diagnostics of `z`.
    """
    rng_views, rng_loss = step_keys(ts.rng, ts.step)
    batch = augment.views(rng_views, batch)
    grad_fn = jax.value_and_grad(method.loss, has_aux=True)
    (loss, aux), grads = grad_fn(ts.params, ts.state, batch, rng_loss)
    updates, opt_state = _updates(optimizer, grads, ts)
    params = optax.apply_updates(ts.params, updates)

    squares = [jnp.sum(jnp.square(g)) for _, g in inexact(grads)]
    own = [jnp.sum(jnp.square(g)) for _, g in inexact(of_method(grads))]
    grad_norm = jnp.sqrt(sum(own))
    new = (params, aux.state, opt_state)
    old = (ts.params, ts.state, ts.opt_state)
    _check_carried(old, new)
    # What is written counts too: a finite gradient times a rate can overflow.
    sound = [jnp.isfinite(x) for x in squares]
    sound += [jnp.all(jnp.isfinite(x)) for _, x in inexact(new)]
    sound = jnp.stack([*sound, jnp.isfinite(grad_norm), jnp.isfinite(loss)])
    finite = jnp.all(sound)
    kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    metrics = aux.metrics | diagnostics(aux.features)
    if taken := RESERVED & metrics.keys():
        raise UsageError(
            f"metrics {sorted(taken)}: names that the loop has itself; take others"
        )
    metrics |= {"loss": loss, "grad_norm": grad_norm, "nonfinite": ~finite}
    metrics["nonfinite_leaf"] = jnp.where(finite, -1, jnp.argmin(sound))
    metrics = {name: jnp.asarray(v, jnp.float32) for name, v in metrics.items()}
    return TrainState(ts.step + 1, ts.rng, *kept), metrics


def _kind(x: chex.Array) -> str:
    return f"{jnp.result_type(x)}{list(jnp.shape(x))}"


def _updates(optimizer: optax.GradientTransformation, grads, ts: TrainState):
    """What the optimizer makes of the gradient."""
    try:
        return optimizer.update(grads, ts.opt_state, ts.params)
    except TypeError as error:
        if "missing" not in str(error):
            raise
        raise UsageError(
            f"optimizer: {error}; expected one that takes gradient, state and "
            "parameters, as optax.adam(...): the loss of a batch is computed once, "
            "which no line search can do with"
        ) from None


def _check_carried(old, new) -> None:
    """Refuses a step that changes what its state is, which no checkpoint could hold."""

    def kinds(trees):
        return {
            f"{part}{jax.tree_util.keystr(path)}": _kind(x)
            for part, tree in zip(PARTS, trees, strict=True)
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        }

    before, after = kinds(old), kinds(new)
    for name in sorted(before.keys() | after.keys()):
        was, is_now = before.get(name, "nothing"), after.get(name, "nothing")
        if was != is_now:
            raise UsageError(
                f"the step makes {name} {is_now}, which was {was}: what is carried "
                "from step to step keeps shape and dtype; cast it to what it was"
            )


def diagnostics(features: dict, *, rows: int = 256) -> dict:
    """What the step's features [B, V, D] tell of collapse; `verdicts` puts it in words.

    `h_rank` and `z_rank`: participation ratio of the covariance, (Σλ)²/Σλ², of the
      first view as it is: D where all directions spread the same, 1 on a line. Two
      products where RankMe takes all singular values.
    `z_std`: standard deviation of normalised entries, averaged over dimensions, times
      √D: 1 when spread over the sphere, 0 when collapsed.
    `uniformity`, `alignment`: those of `losses`.
    `positive_cosine`, `negative_cosine`: mean of an image's views, and of one image's
      first view with the second (or only) view of others.

    Ranks and uniformity look at the first `rows` examples, so their cost stays
    constant. What takes two views, or two examples, is left out where there is one.
    """
    out = {}
    for name in ("h", "z"):
        if name in features and len(features[name]) > 1:
            first = jnp.asarray(features[name][:rows, 0], jnp.float32)
            out[f"{name}_rank"] = participation_ratio(first)
    if "z" not in features:
        return out
    z = losses.normalize(features["z"])
    first, last = z[:, 0], z[:, min(z.shape[1], 2) - 1]
    n = len(first)
    out["z_std"] = jnp.mean(jnp.std(first, axis=0)) * z.shape[-1] ** 0.5
    together = jnp.sum(first * last)
    if z.shape[1] > 1:
        out["alignment"] = losses.alignment(first, last)
        out["positive_cosine"] = together / n
    if n > 1:
        # So few rows are cheapest as a matrix, and need not divide among devices.
        out["uniformity"] = losses.uniformity(first[:rows], implementation="dense")
        # Of all n² pairs from the sums alone.
        every = jnp.dot(jnp.sum(first, axis=0), jnp.sum(last, axis=0))
        out["negative_cosine"] = (every - together) / n / (n - 1)
    return out


def participation_ratio(x: chex.Array) -> chex.Array:
    """(tr C)²/tr C² of the covariance C (Gao et al. 2017, doi:10.1101/214262).

    At most `evaluate.effective_rank`, of which it is the analogue of order 2, and
    without eigenvalues: tr C² is the squared size of the smaller of C and the Gram
    matrix.

    Args:
      x: [n, D] float32.

    Returns:
      Scalar in [1, min(n − 1, D)]; 0 where all rows are equal.
    """
    tiny = jnp.finfo(jnp.float32).tiny
    x = x - jnp.mean(x, axis=0, keepdims=True)
    x = x / jnp.maximum(jnp.max(jnp.abs(x)), tiny)
    product = x @ x.T if len(x) < x.shape[1] else x.T @ x
    return jnp.square(jnp.trace(product)) / jnp.maximum(
        jnp.sum(jnp.square(product)), tiny
    )

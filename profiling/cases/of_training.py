"""Steps of methods, optimizers, schedules, averages, beside other libraries'.

Networks are single matrices, so that what is compared is the method: where gradients
stop, in which order averages, queues and centres move, which view meets which.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from profiling.cases import Case, Peer, normal
from rl_jax import evaluate, losses, memory, methods, train
from rl_jax.methods.byol import BYOLState
from rl_jax.methods.dino import DINOState
from rl_jax.methods.moco import MoCoState
from rl_jax.methods.moco_v3 import MoCoV3State
from rl_jax.methods.nnclr import NNCLRState
from rl_jax.networks.mlp import ACTIVATIONS
from rl_jax.networks.norm import BatchNorm
from rl_jax.networks.transformer import gelu
from rl_jax.train.optimizers import warmup_cosine
from rl_jax.types import Network

ROWS, DIM, OUT, KEYS, WORDS = 8, 12, 6, 16, 10
LIGHTLY, SOLO, TORCH = "lightly", "solo-learn", "torch"
NOTHING = {"encoder": {}, "projector": {}, "predictor": {}}
"""Batch statistics of networks that have none."""


def _apply(w, state, x, *, train, rng=None):
    del train, rng
    return x @ w, state


MATRIX = Network(lambda rng, x: (jnp.eye(x.shape[1]), {}), _apply)
SAME = Network(lambda rng, x: ({}, {}), lambda p, s, x, **_: (x, s))


def _value(method, params, state, batch):
    """The loss of one step, and the state after it."""
    value, aux = method.loss(params, state, batch, jax.random.key(0))
    return value, aux.state


def simsiam(encoder, predictor, views):
    method = methods.simsiam(MATRIX, SAME, MATRIX)
    params = {"encoder": encoder, "projector": {}, "predictor": predictor}
    return _value(method, params, NOTHING, {"views": views})[0]


def byol_step(encoder, predictor, target, views, *, decay, total_steps):
    method = methods.byol(MATRIX, SAME, MATRIX, total_steps=total_steps, decay=decay)
    params = {"encoder": encoder, "projector": {}, "predictor": predictor}
    slow = {"encoder": target, "projector": {}}
    state = BYOLState(NOTHING, {}, slow, NOTHING, jnp.int32(1))
    return _value(method, params, state, {"views": views})[0]


def moco_step(encoder, target, queue, views, *, temperature, decay):
    method = methods.moco(
        MATRIX, SAME, temperature=temperature, decay=decay, queue_size=KEYS
    )
    params = {"encoder": encoder, "projector": {}}
    full = memory.Queue(queue, jnp.int32(0), jnp.int32(KEYS))
    slow = {"encoder": target, "projector": {}}
    state = MoCoState(NOTHING, slow, NOTHING, full)
    for x in views:
        value, state = _value(method, params, state, {"views": x})
    return value


def moco_v3_step(encoder, predictor, target, views, *, step, **options):
    method = methods.moco_v3(MATRIX, SAME, MATRIX, **options)
    params = {"encoder": encoder, "projector": {}, "predictor": predictor}
    slow = {"encoder": target, "projector": {}}
    state = MoCoV3State(NOTHING, slow, NOTHING, jnp.int32(step))
    return _value(method, params, state, {"views": views})[0]


def dino_step(encoder, prototypes, target, target_prototypes, views, local, **options):
    sharp = options["teacher_temperature"]
    method = methods.dino(
        MATRIX,
        SAME,
        total_steps=10,
        prototypes=WORDS,
        decay=1.0,
        warmup_temperature=sharp,
        **options,
    )
    params = {"encoder": encoder, "projector": {}, "prototypes": prototypes}
    slow = {"encoder": target, "projector": {}, "prototypes": target_prototypes}
    state = DINOState(NOTHING, slow, NOTHING, jnp.zeros(WORDS), jnp.int32(0))
    for large, small in zip(views, local, strict=True):
        batch = {"views": large, "local_views": small}
        value, state = _value(method, params, state, batch)
    return value


def nnclr_step(encoder, predictor, queue, views, *, temperature):
    method = methods.nnclr(
        MATRIX, SAME, MATRIX, temperature=temperature, queue_size=KEYS
    )
    params = {"encoder": encoder, "projector": {}, "predictor": predictor}
    full = memory.Queue(queue, jnp.int32(0), jnp.int32(KEYS))
    state = NNCLRState(NOTHING, full)
    for x in views:
        value, state = _value(method, params, state, {"views": x})
    return value


def lejepa_step(encoder, views, local, directions, *, weight):
    method = methods.lejepa(MATRIX, SAME, weight=weight, slices=len(directions))
    params = {"encoder": encoder, "projector": {}}
    batch = {"views": views, "local_views": local}
    return _value(method, params, NOTHING, batch)[0]


def crops_and_directions(rng):
    """An encoder, two large views and three, and the directions that ours draws."""
    drawn = jax.random.normal(jax.random.key(0), (64, OUT))
    shapes = (DIM, OUT), (ROWS, 2, DIM), (ROWS, 3, DIM)
    return *normal(*shapes)(rng), np.asarray(losses.normalize(drawn))


def queue_and_views(rng):
    """Two encoders, unit rows for a full queue, the views of two steps."""
    encoder, target, queue, views = normal(
        (DIM, OUT), (DIM, OUT), (KEYS, OUT), (2, ROWS, 2, DIM)
    )(rng)
    return encoder, target, queue / np.linalg.norm(queue, axis=1)[:, None], views


def queue_and_predictor(rng):
    """The same with a predictor in the place of the second encoder."""
    encoder, _, queue, views = queue_and_views(rng)
    return encoder, *normal((OUT, OUT))(rng), queue, views


def batch_norm(x):
    """Three steps: what the last gives, and the running statistics."""
    layer = BatchNorm(affine=False)
    state = {}
    for rows in x:
        y, state = layer.apply(state, rows, train=True, mutable=["batch_stats"])
    own = state["batch_stats"]
    return jnp.concatenate([y, own["mean"][None], own["var"][None]])


def transformer_gelu(x):
    return gelu(x).sum()


def mlp_gelu(x):
    return ACTIVATIONS["gelu"](x).sum()


def neighbours(rng):
    """Rows of five classes that overlap, and more to be told apart."""
    centres = rng.standard_normal((5, DIM), np.float32)
    label = rng.integers(0, 5, 300)
    rows = centres[label] + rng.standard_normal((300, DIM), np.float32)
    return rows[:200], np.float32(label[:200]), rows[200:]


def votes(features, label, queries, *, k, temperature):
    label = label.astype(jnp.int32)
    return evaluate.knn(features, label, queries, k=k, temperature=temperature)


def ema(old, new, *, decay):
    return memory.ema(old, new, decay)


def decays(*, start, total_steps):
    steps = jnp.arange(total_steps)
    return memory.cosine_decay(steps, start=start, total_steps=total_steps)


def rates(*, peak, total_steps, **options):
    return warmup_cosine(peak, total_steps=total_steps, **options)(
        jnp.arange(total_steps)
    )


SCHEDULE = {"total_steps": 40, "warmup_steps": 10, "learning_rate": 0.5}
CONSTANT = {"total_steps": 10**9, "warmup_steps": 0, "learning_rate": 0.5}


def gradients(schedule):
    """A kernel and a bias, gradients of both for each of 40 steps, and the rates."""

    def make(rng):
        start = normal((9, 5), (5,), (40, 9, 5), (40, 5))(rng)
        told = train.sgd(scaling="none", **schedule).learning_rate
        return *start, np.float32([told(t) for t in range(40)])

    return make


def walk(make, kernel, bias, kernel_grads, bias_grads, rates):
    """How far both have come after all the steps; the rates are its own."""
    del rates
    optimizer = make()
    params = {"kernel": kernel, "bias": bias}
    state, moved = optimizer.init(params), jax.tree.map(jnp.zeros_like, params)
    for grads in zip(kernel_grads, bias_grads, strict=True):
        both = dict(zip(("kernel", "bias"), grads, strict=True))
        update, state = optimizer.update(both, state, params)
        moved = jax.tree.map(jnp.add, moved, update)
        params = jax.tree.map(jnp.add, params, update)
    return jnp.concatenate([moved["kernel"].ravel(), moved["bias"]])


def walked(factory, schedule, **own):
    """`walk` with an optimizer of ours, by the options of the case."""

    def ours(*arrays, **options):
        given = schedule | own | options
        return walk(functools.partial(factory, scaling="none", **given), *arrays)

    return ours


STEEP = {"weight_decay": 0.01, "momentum": 0.9, "trust_coefficient": 0.02}
CENTRED = {"student_temperature": 0.1, "teacher_temperature": 0.04}
INSIDE = "theirs multiplies by the rate after the momentum: equal at a constant rate"
TWO = (DIM, OUT)

CASES = (
    Case(
        "SimSiam, a step", simsiam, normal(TWO, (OUT, OUT), (ROWS, 2, DIM)), 2, {},
        (Peer("simsiam", "SimSiam.forward"),),
    ),
    Case(
        "BYOL, the second step", byol_step,
        normal(TWO, (OUT, OUT), TWO, (ROWS, 2, DIM)), 2,
        {"decay": 0.9, "total_steps": 10},
        (Peer(SOLO, "byol_loss_func, MomentumUpdater"),),
    ),
    Case(
        "MoCo, the second step", moco_step, queue_and_views, 1,
        {"temperature": 0.2, "decay": 0.9},
        (Peer(LIGHTLY, "lightly.loss.NTXentLoss, update_momentum"),),
    ),
    Case(
        "MoCo v3, the fourth step", moco_v3_step,
        normal(TWO, (OUT, OUT), TWO, (ROWS, 2, DIM)), 2,
        {"temperature": 0.2, "decay": 0.9, "total_steps": 10, "step": 3},
        (Peer("moco-v3", "MoCo.forward"),),
    ),
    Case(
        "NNCLR, the second step", nnclr_step, queue_and_predictor, 2,
        {"temperature": 0.2},
        (
            Peer(SOLO, "nnclr_loss_func, NNCLR.find_nn"),
            Peer(
                LIGHTLY, "NNMemoryBankModule",
                "cross-entropy of PyTorch: theirs has both views as candidates",
            ),
        ),
    ),
    Case(
        "LeJEPA, two large and three small views", lejepa_step, crops_and_directions,
        1, {"weight": 0.1},
        (Peer(LIGHTLY, "lightly.loss.LeJEPALoss"),),
    ),
    Case(
        "DINO, the second step", dino_step,
        normal(
            TWO, (WORDS, OUT), TWO, (WORDS, OUT), (2, ROWS, 2, DIM), (2, ROWS, 3, DIM)
        ),
        2, CENTRED,
        (
            Peer("dino", "DINOLoss.forward"),
            Peer(LIGHTLY, "lightly.loss.DINOLoss"),
        ),
    ),
    Case(
        "batch normalisation, three steps", batch_norm, normal((3, ROWS, DIM)), 0, {},
        (Peer(TORCH, "nn.BatchNorm1d"),),
    ),
    Case(
        "GELU of a transformer", transformer_gelu, normal(TWO), 1, {},
        (Peer(TORCH, "gelu"),),
    ),
    Case(
        "GELU of an MLP", mlp_gelu, normal(TWO), 1, {},
        (Peer(TORCH, "gelu"),),
    ),
    Case(
        "votes of the nearest", votes, neighbours, 0, {"k": 20, "temperature": 0.07},
        (Peer(LIGHTLY, "lightly.utils.benchmarking.knn.knn_predict"),),
    ),
    Case(
        "moving average", ema, normal(TWO, TWO), 0, {"decay": 0.99},
        (Peer(LIGHTLY, "lightly.models.utils.update_momentum"),),
    ),
    Case(
        "decay of the target", decays, normal(), 0,
        {"start": 0.99, "total_steps": 40},
        (
            Peer("moco-v3", "adjust_moco_momentum"),
            Peer("dino", "cosine_scheduler"),
            Peer(SOLO, "MomentumUpdater.update_tau"),
            Peer(
                LIGHTLY, "lightly.utils.scheduler.cosine_schedule",
                "theirs is at its end in the last step, ours one later: T + 1 given",
            ),
        ),
    ),
    Case(
        "learning rate, warm-up and cosine", rates, normal(), 0,
        {"peak": 0.3, "warmup_steps": 10, "total_steps": 40},
        (
            Peer("mae", "lr_sched.adjust_learning_rate"),
            Peer("timm", "CosineLRScheduler"),
            Peer(
                "barlowtwins", "adjust_learning_rate",
                "theirs ends at 0.001 of the peak: end_rate=0.001",
                ours={"end_rate": 0.001},
            ),
        ),
    ),
    Case(
        "AdamW, 40 steps", walked(train.adamw, SCHEDULE), gradients(SCHEDULE), 0,
        {"weight_decay": 0.01, "b1": 0.9, "b2": 0.95},
        (Peer(TORCH, "optim.AdamW"),),
    ),
    Case(
        "SGD, 40 steps", walked(train.sgd, SCHEDULE), gradients(SCHEDULE), 0,
        {"weight_decay": 0.01, "momentum": 0.9},
        (Peer(TORCH, "optim.SGD"),),
    ),
    Case(
        "LARS, form bolts, 40 steps", walked(train.lars, SCHEDULE, form="bolts"),
        gradients(SCHEDULE), 0, STEEP,
        (
            Peer(SOLO, "LARS"),
            Peer(LIGHTLY, "lightly.utils.lars.LARS"),
            Peer("timm", "Lars"),
        ),
    ),
    Case(
        "LARS, form bolts, clipped, 40 steps",
        walked(train.lars, SCHEDULE, form="bolts"), gradients(SCHEDULE), 0,
        STEEP | {"clip_lr": True},
        (Peer(SOLO, "LARS"),),
    ),
    Case(
        "LARS, form mae, 40 steps", walked(train.lars, SCHEDULE, form="mae"),
        gradients(SCHEDULE), 0, STEEP,
        (Peer("mae", "util.lars.LARS"), Peer("barlowtwins", "main.LARS")),
    ),
    Case(
        "LARS, form simclr, 40 steps at a constant rate",
        walked(train.lars, CONSTANT), gradients(CONSTANT), 0, STEEP,
        (
            Peer("mae", "util.lars.LARS", INSIDE),
            Peer("barlowtwins", "main.LARS", INSIDE),
        ),
    ),
)  # fmt: skip

"""Methods that tell patches taken out, beside the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np

from profiling.cases import Case, Peer, normal
from profiling.cases.of_losses import masked_images
from rl_jax import losses, methods, networks
from rl_jax.methods import blocks, hiding, masking
from rl_jax.methods.i_jepa import IJEPAState
from rl_jax.methods.self_distillation import DistillationState
from rl_jax.types import Network

TORCH, AUTHORS = "torch", "ijepa"
ROWS, SIDE, PATCH, DIM = 4, 8, 2, 6
WIDTH, HEADS = 8, 2
DRAWN = {
    "targets": 3,
    "target_scale": (0.15, 0.2),
    "target_aspect": (0.75, 1.5),
    "context_scale": (0.85, 1.0),
}
KEPT = 4
"""A quarter of the 16 patches."""


def smooth_l1(predicted, target, *, beta):
    return losses.smooth_l1(predicted, target, beta=beta)


def simmim(predicted, image, masked):
    target = networks.patchify(image, 4)
    out = jnp.argsort(-masked, axis=1, stable=True)[:, :12]
    return losses.absolute_error(*(masking.take(x, out) for x in (predicted, target)))


def _masks():
    """Of four examples, whose blocks are all of their size."""
    index = jnp.arange(ROWS, dtype=jnp.int32)
    grid = (SIDE // PATCH, SIDE // PATCH)
    return blocks.draw(jax.random.key(0), index, grid, kept=KEPT, **DRAWN)


def _whole_blocks():
    """Numbers of the patches of contexts and blocks, without padding."""
    drawn = jax.tree.map(np.asarray, _masks())
    there = int(drawn.counts[0, 0].sum())
    assert drawn.counts[..., :there].all()
    return drawn.context, drawn.targets[..., :there]


LAYERS = {
    ("embed",): (DIM, WIDTH),
    ("transformer", "block1", "qkv"): (WIDTH, 3 * WIDTH),
    ("transformer", "block1", "out"): (WIDTH, WIDTH),
    ("transformer", "block1", "mlp1"): (WIDTH, 4 * WIDTH),
    ("transformer", "block1", "mlp2"): (4 * WIDTH, WIDTH),
    ("out",): (WIDTH, DIM),
}
NORMS = [
    ("transformer", "block1", "norm1"),
    ("transformer", "block1", "norm2"),
    ("transformer", "norm"),
]


def predictor_inputs(rng):
    """Tokens, the mask token, kernels and biases, scales and biases, the masks."""
    shapes = [s for kernel in LAYERS.values() for s in (kernel, kernel[1:])]
    shapes += 2 * len(NORMS) * [(WIDTH,)]
    tokens, *params = normal((ROWS, KEPT, DIM), (WIDTH,), *shapes)(rng)
    return tokens, *(0.5 * p for p in params), *map(np.float32, _whole_blocks())


def predictor(tokens, mask, *rest):
    """Mean square of what the predictor tells, of one block of depth."""
    *params, _, _ = rest
    tree = {"mask": mask[None, None], "transformer": {"block1": {}}}
    for path in (*LAYERS, *NORMS):
        at = tree
        for name in path[:-1]:
            at = at[name]
        first = "kernel" if path in LAYERS else "scale"
        at[path[-1]] = {first: params.pop(0), "bias": params.pop(0)}
    drawn = _masks()
    grid = networks.patch_positions(SIDE // PATCH, SIDE // PATCH)
    places = jnp.broadcast_to(grid[None], (ROWS, *grid.shape))
    network = networks.jepa_predictor(width=WIDTH, depth=1, heads=HEADS)
    total, count = 0.0, 0
    for block in range(DRAWN["targets"]):
        x = networks.Masked(
            tokens,
            masking.take(places, drawn.context),
            masking.take(places, drawn.targets[:, block]),
            drawn.counts[:, block],
        )
        y, _ = network.apply(tree, {}, x, train=True)
        counts = drawn.counts[:, block][..., None]
        total += jnp.sum(jnp.where(counts, jnp.square(y), 0.0))
        count += jnp.sum(counts) * DIM
    return total / count


def _of_patches(params, state, x, *, train, rng=None):
    del train, rng
    values = x.values if isinstance(x, networks.Patches) else networks.patchify(x, 2)
    return values @ params, state


def _of_the_mean(params, state, x, *, train, rng=None):
    del train, rng
    seen = jnp.mean(x.tokens, axis=1, keepdims=True) @ params
    return seen + x.masked.astype(jnp.float32).sum(-1, keepdims=True), state


def step_inputs(rng):
    arrays = normal(
        (PATCH * PATCH, DIM), (DIM, DIM), (PATCH * PATCH, DIM), (ROWS, SIDE, SIDE, 1)
    )(rng)
    return *arrays, *map(np.float32, _whole_blocks())


def step(encoder, head, target, image, context, targets, *, step, **options):
    """One step, in which the target moves first."""
    del context, targets
    method = methods.i_jepa(
        Network(lambda rng, x: (encoder, {}), _of_patches),
        Network(lambda rng, x: (head, {}), _of_the_mean),
        context_share=KEPT / 16,
        **DRAWN,
        **options,
    )
    params = {"encoder": encoder, "predictor": head}
    nothing = {"encoder": {}, "predictor": {}}
    state = IJEPAState(
        nothing, {"encoder": target}, {"encoder": {}}, jnp.int32(step + 1)
    )
    batch = {"image": image, "index": jnp.arange(ROWS, dtype=jnp.int32)}
    return method.loss(params, state, batch, jax.random.key(0))[0]


WORDS, SHARE = 10, {"probability": 0.7, "ratio": (0.2, 0.5)}


def _class_and_patches(params, state, x, *, train, rng=None):
    """The mean token in front, and added to each."""
    del train, rng
    if isinstance(x, networks.Patches):
        tokens = jnp.where(x.hidden[..., None], x.token[None, None], x.values @ params)
    else:
        tokens = networks.patchify(x, PATCH) @ params
    mean = jnp.mean(tokens, axis=1, keepdims=True)
    return jnp.concatenate([mean, tokens + mean], axis=1), state


def crops_and_hidden(rng):
    """Encoder, prototypes, mask token, the teacher's, crops of two steps, the mask."""
    weights = (PATCH * PATCH, DIM), (WORDS, DIM)
    index = jnp.arange(ROWS, dtype=jnp.int32)
    grid = (SIDE // PATCH, SIDE // PATCH)
    drawn = hiding.draw(jax.random.key(0), index, grid, views=2, least=1, **SHARE)
    arrays = normal(
        *weights, (DIM,), *weights,
        (2, ROWS, 2, SIDE, SIDE, 1), (2, ROWS, 3, SIDE // 2, SIDE // 2, 1),
    )(rng)  # fmt: skip
    return *arrays, np.float32(drawn)


def ibot_step(
    encoder,
    prototypes,
    mask,
    target,
    target_prototypes,
    views,
    local,
    hidden,
    **options,
):
    """Two steps, so that the centres count; the loss of the second."""
    del hidden
    method = methods.ibot(
        Network(lambda rng, x: (encoder, {}), _class_and_patches),
        Network(lambda rng, x: ({}, {}), lambda p, s, x, **_: (x, s)),
        total_steps=10,
        prototypes=WORDS,
        decay=1.0,
        warmup_temperature=options["teacher_temperature"],
        warmup_steps=1,
        mask_probability=SHARE["probability"],
        mask_ratio=SHARE["ratio"],
        **options,
    )
    params = {"encoder": encoder, "projector": {}, "prototypes": prototypes}
    slow = {"encoder": target, "projector": {}, "prototypes": target_prototypes}
    nothing = {"encoder": {}, "projector": {}}
    centre = {name: jnp.zeros(WORDS) for name in ("cls", "patch")}
    state = DistillationState(nothing, slow, nothing, centre, jnp.int32(1))
    value = jnp.zeros([])
    for large, small in zip(views, local, strict=True):
        batch = {
            "views": large,
            "local_views": small,
            "index": jnp.arange(ROWS, dtype=jnp.int32),
        }
        value, aux = method.loss(
            params | {"mask": mask}, state, batch, jax.random.key(0)
        )
        state = aux.state
    return value


CASES = (
    *(
        Case(
            f"smooth L1, β = {beta}", smooth_l1, normal((8, 6), (8, 6)), 2,
            {"beta": beta},
            (Peer(TORCH, "smooth_l1_loss"),),
        )
        for beta in (1.0, 0.25)
    ),
    Case(
        "SimMIM", simmim, masked_images, 1, {},
        (Peer("SimMIM", "SimMIM.forward", "theirs has 1e-5 in the denominator"),),
    ),
    Case(
        "I-JEPA's predictor", predictor, predictor_inputs, 20, {},
        (
            Peer(
                AUTHORS, "VisionTransformerPredictor.forward",
                "mean square of its predictions of three blocks",
            ),
        ),
    ),
    Case(
        "I-JEPA, a step", step, step_inputs, 2,
        {"decay": 0.6, "total_steps": 10, "step": 3},
        (
            Peer(
                AUTHORS, "apply_masks, repeat_interleave_batch",
                "the lines of its loop; the target moves by the decay of step 3",
            ),
        ),
    ),
    Case(
        "iBOT, the second step", ibot_step, crops_and_hidden, 3,
        {
            "student_temperature": 0.1,
            "teacher_temperature": 0.05,
            "patch_temperature": 0.07,
            "centre_momentum": 0.8,
        },
        (Peer("ibot", "iBOTLoss.forward"),),
    ),
)  # fmt: skip

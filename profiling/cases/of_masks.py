"""Methods that tell patches taken out, beside the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np

from profiling.cases import Case, Peer, normal
from profiling.cases.of_losses import masked_images
from rl_jax import losses, methods, networks
from rl_jax.methods import blocks, masking
from rl_jax.methods.i_jepa import IJEPAState
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
)  # fmt: skip

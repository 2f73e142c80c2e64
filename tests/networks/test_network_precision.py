"""Networks that compute in bfloat16, beside the same ones in float32."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import assert_close

from rl_jax import networks
from rl_jax.errors import UsageError

RNG = jax.random.key(0)
PRODUCT = re.compile(r"stablehlo\.(dot_general|convolution)")
IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
ROWS = IMAGES.reshape(16, 64)[:, :16]
SEQUENCES = IMAGES.reshape(16, 8, 8)
MADE = {
    "mlp": (networks.mlp, {"features": (8, 8), "activation": "silu"}, IMAGES),
    "mlp gelu": (
        networks.mlp,
        {"features": (8,), "out": 4, "activation": "gelu", "batch_norm": False},
        IMAGES,
    ),
    "convnet": (networks.convnet, {"widths": (4, 8)}, IMAGES),
    "convnet biased": (networks.convnet, {"widths": (4,), "batch_norm": False}, IMAGES),
    "projection_head": (networks.projection_head, {"hidden": 8, "out": 4}, ROWS),
    "projection_head normal": (
        networks.projection_head,
        {"hidden": 8, "out": 4, "layers": 3, "final_batch_norm": True},
        ROWS,
    ),
    "prediction_head": (networks.prediction_head, {"hidden": 8, "out": 4}, ROWS),
    "task_head": (networks.task_head, {"hidden": 8}, ROWS),
    "linear": (networks.linear, {"out": 4}, ROWS),
    "mlp_decoder": (networks.mlp_decoder, {"shape": (4, 3), "features": (8,)}, ROWS),
    "conv_decoder": (
        networks.conv_decoder,
        {"shape": (8, 8, 1), "widths": (8, 4), "batch_norm": True},
        ROWS,
    ),
    "gru": (networks.gru, {"hidden": 8}, SEQUENCES),
}


@pytest.mark.parametrize("name", MADE)
def test_bfloat16_is_close_to_float32(name):
    """Values, gradients and statistics; all of them float32, every product bfloat16."""
    factory, arguments, x = MADE[name]
    full, half = factory(**arguments), factory(**arguments, dtype="bfloat16")
    params, state = half.init(RNG, x)
    chex.assert_trees_all_equal((params, state), full.init(RNG, x))

    def step(network, params):
        def loss(params):
            y, new = network.apply(params, state, x, train=True)
            weight = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            return jnp.mean(weight * y), (y, new)

        gradients, (y, new) = jax.grad(loss, has_aux=True)(params)
        return gradients, y, new

    found = []
    for network, dtype in ((full, "f32"), (half, "bf16")):
        run = jax.jit(functools.partial(step, network))
        found.append(run(params))
        text = run.lower(params).as_text()
        products = [line for line in text.splitlines() if PRODUCT.search(line)]
        operands = [re.findall(r"x(bf16|f\d\d)>", line) for line in products]
        assert operands
        assert all(each == [dtype] * 3 for each in operands)
    exact, rough = found
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(rough))
    assert_close(rough[1:], exact[1:], tolerance=0.03)
    assert not np.array_equal(rough[1], exact[1])
    # Rounding switches some ReLU on or off: single entries may be far from the others.
    error = optax.tree.norm(optax.tree.sub(rough[0], exact[0]))
    assert error < 0.1 * optax.tree.norm(exact[0])


@pytest.mark.parametrize("name", MADE)
def test_evaluation_takes_the_statistics_of_either(name):
    factory, arguments, x = MADE[name]
    full, half = factory(**arguments), factory(**arguments, dtype="bfloat16")
    params, state = full.init(RNG, x)
    _, state = full.apply(params, state, x, train=True)
    exact, _ = full.apply(params, state, x, train=False)
    rough, same = half.apply(params, state, x, train=False)
    assert same is state
    assert rough.dtype == jnp.float32
    assert_close(rough, exact, tolerance=0.03)


@pytest.mark.parametrize("name", MADE)
def test_refused(name):
    factory, arguments, _ = MADE[name]
    message = f"^{factory.__name__}: dtype must be one of float32, bfloat16, got 'half'"
    with pytest.raises(UsageError, match=message):
        factory(**arguments, dtype="half")

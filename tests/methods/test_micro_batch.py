"""Micro-batches: the gradient of the whole batch, the activations of a part of it."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from reference import assert_close as assert_close_to
from reference.machine import quick_jit

from rl_jax import methods, networks, train
from rl_jax.errors import UsageError
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Network

pytestmark = pytest.mark.core
B, MICRO = 16, 4
RNG = jax.random.key(0)
HEAD = networks.projection_head(hidden=8, out=6)  # with BatchNorm over the whole batch

# A bias before the head's BatchNorm has a gradient that is zero up to rounding.
assert_close = functools.partial(assert_close_to, floor=0.05)

plain = functools.partial(networks.convnet, widths=(6, 8), batch_norm=False)
mlp = functools.partial(networks.mlp, features=(16,), out=8, batch_norm=False)
split = functools.partial(networks.convnet, widths=(6, 8), split=8)


class Conv(nn.Module):
    """Convolutions that compute in `dtype`."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, *, train):
        for _ in range(2):
            x = nn.relu(nn.Conv(8, (3, 3), use_bias=False, dtype=self.dtype)(x))
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


class Noisy(nn.Module):
    """Two layers with dropout between them; an integer image is scaled."""

    @nn.compact
    def __call__(self, x, *, train):
        if x.dtype == jnp.uint8:
            x = x / jnp.float32(255)
        x = jnp.tanh(nn.Dense(8)(x.reshape(len(x), -1)))
        return nn.Dense(5)(nn.Dropout(0.5)(x, deterministic=not train))


def batch(size=B, seed=1):
    views = jax.random.normal(jax.random.key(seed), (size, 2, 8, 8, 1))
    return {
        "views": views,
        "image": views[:, 0],
        "label": jnp.arange(size, dtype=jnp.int32) % 4,
    }


def step(method, data):
    """Value, Aux and gradients at the method's own start."""
    params, state = quick_jit(method.init)(RNG, data)
    f = jax.value_and_grad(method.loss, has_aux=True)
    return quick_jit(f)(params, state, data, RNG)


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
@pytest.mark.parametrize("make", [plain, mlp, split], ids=["convnet", "mlp", "split"])
def test_equals_the_one_batch(make, loop):
    """Loss, every gradient, running statistics and features."""
    whole = methods.simclr(make(), HEAD)
    cached = micro_batched(make(), MICRO, views=2, loop=loop)
    (value, aux), grads = step(methods.simclr(cached, HEAD), batch())
    (value_one, aux_one), grads_one = step(whole, batch())
    assert_close(value, value_one, tolerance=1e-6)
    assert_close(grads, grads_one, tolerance=1e-5)
    assert_close(aux.state, aux_one.state, tolerance=1e-5)
    assert_close(aux.features, aux_one.features, tolerance=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(grads, grads_one)
    chex.assert_trees_all_equal_shapes_and_dtypes(aux, aux_one)


@pytest.mark.slow
@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
def test_bfloat16(loop):
    """As near to the gradient in float32 as one batch is: micro-batches are summed so.

    The two need not agree to 1e-5: where bfloat16 is rounded, the compiler decides.
    """
    head = networks.projection_head(hidden=8, out=6, batch_norm=False)
    exact, half = (networks.from_linen(Conv(d)) for d in (jnp.float32, jnp.bfloat16))
    cached = micro_batched(half, MICRO, views=2, loop=loop)
    exact, one, found = (
        step(methods.simclr(encoder, head), batch())[1]
        for encoder in (exact, half, cached)
    )

    def distance(a, b):
        return float(optax.tree.norm(optax.tree.sub(a, b)) / optax.tree.norm(exact))

    assert distance(found, one) < 0.02
    assert distance(found, exact) < 1.1 * distance(one, exact)


def test_simclr_takes_it_and_evaluates_as_before():
    one, cached = (methods.simclr(mlp(), HEAD, micro_batch=m) for m in (None, MICRO))
    (value, _), grads = step(cached, batch())
    (value_one, _), grads_one = step(one, batch())
    assert_close(value, value_one, tolerance=1e-6)
    assert_close(grads, grads_one, tolerance=1e-5)
    params, state = one.init(RNG, batch())
    chex.assert_trees_all_equal(cached.init(RNG, batch()), (params, state))
    chex.assert_trees_all_equal(
        cached.encode(params, state, batch()), one.encode(params, state, batch())
    )


@pytest.mark.parametrize("name", ["moco", "moco symmetric", "byol"])
def test_moving_targets_take_it_too(name):
    """The second step, when the queue is no longer empty."""
    make = functools.partial(methods.moco, queue_size=40, symmetric="sym" in name)
    if name == "byol":
        make = functools.partial(methods.byol, total_steps=10)
    nets = [plain(), HEAD]
    if name == "byol":
        nets.append(networks.prediction_head(hidden=8, out=6))
    one, cached = (make(*nets, micro_batch=m) for m in (None, MICRO))
    params, state = one.init(RNG, batch())
    state = quick_jit(one.loss)(params, state, batch(), RNG)[1].state

    def second(method):
        f = jax.value_and_grad(method.loss, has_aux=True)
        return quick_jit(f)(params, state, batch(seed=2), RNG)

    assert_close_to(second(cached), second(one), tolerance=1e-5, floor=0.05)


CROPPED = {
    "dino": functools.partial(methods.dino, total_steps=10, prototypes=12),
    "dino average": functools.partial(
        methods.dino, total_steps=10, prototypes=12, target_statistics="average"
    ),
    "swav": functools.partial(methods.swav, prototypes=12, queue_size=20),
    "lejepa": functools.partial(methods.lejepa, slices=8),
}


@pytest.mark.parametrize("name", CROPPED)
def test_crops_of_two_sizes_go_through_in_parts(name):
    """The second step; each size is cut by itself, with as many views as it has."""

    def cropped(seed):
        crops = jax.random.normal(jax.random.key(seed), (B, 3, 5, 5, 1))
        return batch(seed=seed) | {"local_views": crops}

    make = CROPPED[name]
    nets = (split(), networks.projection_head(hidden=8, out=6, batch_norm=False))
    one, cached = (make(*nets, micro_batch=m) for m in (None, MICRO))
    params, state = one.init(RNG, cropped(1))
    chex.assert_trees_all_equal(cached.init(RNG, cropped(1)), (params, state))
    state = quick_jit(one.loss)(params, state, cropped(1), RNG)[1].state

    def second(method):
        f = jax.value_and_grad(method.loss, has_aux=True)
        return quick_jit(f)(params, state, cropped(2), RNG)

    assert_close_to(second(cached), second(one), tolerance=1e-5, floor=0.05)
    with pytest.raises(UsageError, match=r"micro_batch=5 does not cut the batch of 16"):
        make(*nets, micro_batch=5).init(RNG, cropped(1))


def test_probe_learns_and_leaves_the_encoder_alone():
    cached = methods.simclr(mlp(), HEAD, micro_batch=MICRO)
    probed = methods.with_probe(cached, num_classes=4)
    (value, _), grads = step(cached, batch())
    params, state = quick_jit(probed.init)(RNG, batch())
    params["method"] = quick_jit(cached.init)(RNG, batch())[0]
    f = quick_jit(jax.value_and_grad(probed.loss, has_aux=True))
    (value_probed, aux), more = f(params, state, batch(), RNG)
    assert value == value_probed
    chex.assert_trees_all_equal(more["method"], grads)
    assert np.any(np.asarray(more["probe"]["kernel"]))
    assert np.isfinite(aux.metrics["probe_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
def test_gradient_of_the_inputs_is_exact(loop):
    network = mlp()
    cached = micro_batched(network, MICRO, loop=loop)
    x = batch()["image"]
    params, state = network.init(RNG, x)

    def coupled(network, x):
        y, _ = network.apply(params, state, x, train=True)
        return jnp.sum(jnp.tanh(y @ y.T))

    found, expected = (jax.grad(functools.partial(coupled, n))(x) for n in
                       (cached, network))  # fmt: skip
    assert_close(found, expected, tolerance=1e-5)


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8])
def test_noise_is_the_same_in_both_passes(loop, dtype):
    """Against the parts written out, each with its own key; integer images too."""
    network = networks.from_linen(Noisy())
    cached = micro_batched(network, MICRO, loop=loop)
    x = (100 * jax.random.uniform(RNG, (B, 4, 4, 1))).astype(dtype)
    params, state = network.init(RNG, x)
    rng = jax.random.key(5)

    def written_out(params):
        return jnp.concatenate(
            [
                network.apply(
                    params, state, part, train=True, rng=jax.random.fold_in(rng, j)
                )[0]
                for j, part in enumerate(jnp.split(x, B // MICRO))
            ]
        )

    def in_parts(params):
        return cached.apply(params, state, x, train=True, rng=rng)[0]

    def coupled(f, params):
        y = f(params)
        return jnp.sum(jnp.tanh(y @ y.T))

    assert_close(in_parts(params), written_out(params), tolerance=1e-6)
    found, expected = (
        jax.jit(jax.grad(functools.partial(coupled, f)))(params)
        for f in (in_parts, written_out)
    )
    assert_close(found, expected, tolerance=1e-5)


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
def test_holds_the_activations_of_one_micro_batch(loop):
    """Eight micro-batches: below 0.35 of the compiled memory of the one batch."""
    network = networks.convnet(widths=(32, 32), batch_norm=False)
    x = jax.ShapeDtypeStruct((2 * B, 2, 32, 32, 3), jnp.float32)
    data = {"views": x}

    def memory(**arguments):
        encoder = network
        if arguments:
            encoder = micro_batched(network, 2 * B // 8, views=2, **arguments)
        method = methods.simclr(encoder, HEAD)
        params, state = jax.eval_shape(method.init, RNG, data)
        f = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        compiled = f.lower(params, state, data, RNG).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(loop=loop) < 0.35 * memory()


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
@pytest.mark.parametrize(
    "make",
    [plain, functools.partial(split, split=16)],
    ids=["convnet", "split"],
)
def test_eight_devices_equal_one_and_no_row_moves(make, loop):
    """Two micro-batches over eight devices: sixteen shares, each whole groups."""
    method = methods.simclr(micro_batched(make(), 8, views=2, loop=loop), HEAD)
    (value_one, aux_one), grads_one = step(methods.simclr(make(), HEAD), batch())
    mesh = train.data_mesh()
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    params, state = jax.device_put(method.init(RNG, batch()), everywhere)

    def encoder_alone(params, views):
        x = views.reshape(-1, 8, 8, 1)
        encoder = micro_batched(make(), 8, views=2, loop=loop)
        y, _ = encoder.apply(params, state["encoder"], x, train=True)
        return jnp.mean(jnp.tanh(y))

    with jax.set_mesh(mesh):
        data = jax.device_put(batch(), rows)
        f = quick_jit(jax.value_and_grad(method.loss, has_aux=True))
        (value, aux), grads = f(params, state, data, RNG)
        alone = quick_jit(jax.grad(encoder_alone))
        compiled = alone.lower(params["encoder"], data["views"]).compile()
    assert_close(value, value_one, tolerance=1e-5)
    assert_close(grads, grads_one, tolerance=1e-5)
    assert_close(aux.state, aux_one.state, tolerance=1e-5)
    assert_close(aux.features, aux_one.features, tolerance=1e-5)
    collective = r" (all-[a-z-]+|collective-permute|reduce-scatter)\("
    found = set(re.findall(collective, compiled.as_text()))
    assert found == {"all-reduce"}


def test_a_chain_is_cut_at_the_groups_of_all():
    def chain():
        return networks.chain(
            a=networks.mlp(features=(8,), out=8, split=8),
            b=networks.mlp(features=(8,), out=5, split=4),
        )

    assert chain().split == 4
    one = methods.simclr(chain(), HEAD)
    (_, aux), grads = step(methods.simclr(chain(), HEAD, micro_batch=4), batch())
    (_, aux_one), grads_one = step(one, batch())
    assert_close(grads, grads_one, tolerance=1e-5)
    assert_close(aux.state, aux_one.state, tolerance=1e-5)


def test_one_part_is_the_network_itself():
    """Also where BatchNorm is over the whole batch."""
    encoder = networks.mlp(features=(8,), out=8)
    found = step(methods.simclr(encoder, HEAD, micro_batch=B), batch())
    chex.assert_trees_all_equal(found, step(methods.simclr(encoder, HEAD), batch()))


def counted():
    """A network by hand whose state says nothing about groups."""

    def apply(params, state, x, *, train, rng=None):
        return x.reshape(len(x), -1) @ params, state + 1

    return Network(lambda rng, x: (jnp.ones((64, 4)), jnp.zeros([])), apply)


@pytest.mark.parametrize(
    ("encoder", "size", "message"),
    [
        (networks.mlp(), 4, r"micro_batch=4: .*\(split=1\) span its 4 micro-batches; "),
        (networks.convnet(), 2, r"without BatchNorm, or with split=8 or a multiple"),
        (split(split=2), 4, r"\(split=2\) span its 4 .* with split=4 or a multiple"),
        (counted(), 8, r"\(split=1\) span its 2 micro-batches"),
        (mlp(), 3, "micro_batch=3 does not cut the batch of 16 into .*; use one of 1,"),
        (mlp(), 32, "micro_batch=32 does not cut the batch of 16"),
    ],
)
def test_refuses_from_init_on(encoder, size, message):
    method = methods.simclr(encoder, HEAD, micro_batch=size)
    with pytest.raises(UsageError, match=message) as error:
        jax.eval_shape(method.init, RNG, batch())
    assert "\n" not in str(error.value)
    params, state = methods.simclr(encoder, HEAD).init(RNG, batch())
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(method.loss, params, state, batch(), RNG)


def test_refuses_sizes_below_one():
    with pytest.raises(UsageError, match="micro_batch must be at least 1, got 0"):
        methods.simclr(mlp(), HEAD, micro_batch=0)


@pytest.mark.parametrize(
    ("encoder", "size", "message"),
    [
        (mlp(), 4, "=4 .* 16 into equal parts on 8 devices; use one of 8, 16"),
        (split(), 8, r"\(split=8\) span its 2 .* on 8 devices; .* with split=16 or"),
    ],
)
def test_refuses_what_devices_cannot_share(encoder, size, message):
    method = methods.simclr(encoder, HEAD, micro_batch=size)
    with (
        jax.set_mesh(train.data_mesh()),
        pytest.raises(UsageError, match=message),
    ):
        jax.eval_shape(method.init, RNG, batch())


def test_parts_hold_whole_groups():
    network = split()
    x = batch()["image"]
    params, state = jax.eval_shape(network.init, RNG, x)
    f = functools.partial(network.apply, train=True, parts=3)
    with pytest.raises(UsageError, match="ConvNet: split=8 groups .* 3 equal parts"):
        jax.eval_shape(f, params, state, x)

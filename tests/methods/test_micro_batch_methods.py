"""Micro-batches in methods that hide, rebuild or classify: the one batch's gradient."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec
from reference import assert_close
from reference.machine import quick_jit, temporary_bytes

from rl_jax import methods, networks, train
from rl_jax.errors import UsageError
from rl_jax.methods.micro_batch import micro_batched

B, MICRO = 16, 4
RNG = jax.random.key(0)


def vit(pool="none", **arguments):
    given = {"patch": 2, "width": 16, "depth": 1, "heads": 2, "pool": pool}
    return networks.vit(**given | arguments)


def mae(**arguments):
    decoder = networks.mae_decoder(width=16, depth=1, heads=2)
    return methods.mae(vit(), decoder, normalise_patches=True, **arguments)


def supervised(**arguments):
    encoder = networks.convnet(widths=(6, 8), split=8)
    return methods.supervised(encoder, num_classes=4, **arguments)


def distilled(method, **arguments):
    head = networks.projection_head(hidden=16, out=8, batch_norm=False)
    given = {"total_steps": 10, "decay": 0.9, "prototypes": 12}
    return method(vit(pool="all"), head, **given | arguments)


def i_jepa(**arguments):
    predictor = networks.jepa_predictor(width=16, depth=1, heads=2)
    return methods.i_jepa(vit(), predictor, total_steps=10, decay=0.9, **arguments)


def with_decoder(method, **arguments):
    encoder = networks.mlp(features=(16,), out=8, batch_norm=False)
    decoder = networks.conv_decoder(shape=(8, 8, 1), widths=(6, 4))
    return method(encoder, decoder, **arguments)


def bert(**arguments):
    encoder = networks.text_transformer(
        vocab_size=20, length=12, width=16, depth=1, heads=2, pool="none"
    )
    return methods.bert(encoder, vocab_size=20, **arguments)


def of_codes(method, **arguments):
    return method(networks.convnet(widths=(6, 8), batch_norm=False), **arguments)


METHODS = {
    "autoencoder": functools.partial(with_decoder, methods.autoencoder),
    "denoising_autoencoder": functools.partial(
        with_decoder, methods.denoising_autoencoder, masked=0.2, error="cross_entropy"
    ),
    "vae": functools.partial(with_decoder, methods.vae, beta_warmup=5, free_bits=0.01),
    "vae score": functools.partial(
        with_decoder, methods.vae, likelihood="bernoulli", estimator="score_function"
    ),
    "bert": bert,
    "vib": functools.partial(of_codes, methods.vib, num_classes=4),
    "contrastive_vib": functools.partial(of_codes, methods.contrastive_vib),
    "ibot": functools.partial(distilled, methods.ibot),
    "dino_v2": functools.partial(distilled, methods.dino_v2),
    "i_jepa": i_jepa,
    "mae": mae,
    "simmim": lambda **given: methods.simmim(vit(), **given),
    "supervised": supervised,
    "supervised mixed": functools.partial(
        supervised, mixup=0.8, cutmix=1.0, feature_penalty=0.01
    ),
}


def batch(seed=1, size=B):
    rng = jax.random.key(seed)
    views = jax.random.uniform(rng, (size, 2, 8, 8, 1))
    crops = jax.random.normal(jax.random.fold_in(rng, 1), (size, 3, 4, 4, 1))
    return {
        "index": 7 * jnp.arange(size, dtype=jnp.int32),
        "views": views,
        "local_views": crops,
        "image": views[:, 1],
        "tokens": jax.random.randint(rng, (size, 12), 3, 20),
        "label": jnp.arange(size, dtype=jnp.int32) % 5 - 1,
    }


def step(method, params, state, data):
    """Value, Aux and gradients."""
    f = jax.value_and_grad(method.loss, has_aux=True)
    return quick_jit(f)(params, state, data, jax.random.key(3))


@functools.cache
def begun(name):
    """The method in one batch, and where a step has brought it."""
    one = METHODS[name]()
    params, state = quick_jit(one.init)(RNG, batch())
    # Zeros, such as those of a mask token, would keep gradients from what is below.
    params = jax.tree.map(lambda p: p + 0.05, params)
    state = step(one, params, state, batch())[0][1].state
    return one, params, state


LONG = ("ibot", "i_jepa", "simmim", "denoising_autoencoder", "vae score")
"""Those whose parts the others have, too: masks, a teacher, a decoder, noise."""


@pytest.mark.core
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in METHODS],
)
def test_equals_the_one_batch(name):
    """Of a second step: loss, every gradient, state, features and metrics."""
    one, params, state = begun(name)
    cached = METHODS[name](micro_batch=MICRO)
    chex.assert_trees_all_equal(
        quick_jit(cached.init)(RNG, batch()), quick_jit(one.init)(RNG, batch())
    )
    expected = step(one, params, state, batch(2))
    found = step(cached, params, state, batch(2))
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    assert_close(found, expected, tolerance=1e-5, floor=0.05)
    of_encoder = jax.tree.leaves(expected[1]["encoder"])
    assert all(jnp.any(leaf) for leaf in of_encoder)
    chex.assert_trees_all_equal(
        quick_jit(cached.encode)(params, state, batch()),
        quick_jit(one.encode)(params, state, batch()),
    )


@pytest.mark.parametrize("name", METHODS)
def test_parts_that_do_not_cut_the_batch_are_refused(name):
    method = METHODS[name](micro_batch=5)
    with pytest.raises(UsageError, match=r"micro_batch=5 does not cut the batch of 16"):
        jax.eval_shape(method.init, RNG, batch())


@pytest.mark.parametrize(
    ("method", "role"),
    [
        (lambda: methods.supervised(networks.mlp(), num_classes=5, micro_batch=4),
         "encoder"),
        (lambda: methods.vae(
            networks.mlp(batch_norm=False),
            networks.conv_decoder(shape=(8, 8, 1), batch_norm=True),
            micro_batch=4,
         ), "decoder"),
        (lambda: methods.autoencoder(
            networks.mlp(batch_norm=False),
            networks.mlp_decoder(shape=(8, 8, 1), batch_norm=True),
            micro_batch=4,
         ), "decoder"),
    ],
    ids=["supervised", "vae", "autoencoder"],
)  # fmt: skip
def test_batch_statistics_are_refused(method, role):
    message = rf"micro_batch=4: batch statistics of the {role} \(split=1\) span its 4 "
    with pytest.raises(UsageError, match=message + "micro-batches; use one without"):
        jax.eval_shape(method().init, RNG, batch())


@pytest.mark.parametrize("loop", [False, True], ids=["unrolled", "scan"])
def test_hidden_patches_go_through_in_parts(loop):
    """Places and the token that hides: gradients of both kinds of patches and of it."""
    network = vit()
    cached = micro_batched(network, MICRO, loop=loop)
    image = batch()["image"]
    params, state = network.init(RNG, image)
    places = jnp.broadcast_to(networks.patch_positions(4, 4)[None], (B, 16, 2))
    hidden = jax.random.bernoulli(RNG, 0.3, (B, 16))
    token = jax.random.normal(jax.random.key(4), (16,))

    def coupled(network, params, values, token):
        x = networks.Patches(values, places, hidden, token)
        y, _ = network.apply(params, state, x, train=True)
        y = y.mean(1)
        return jnp.sum(jnp.tanh(y @ y.T))

    given = params, networks.patchify(image, 2), token
    found, expected = (
        quick_jit(jax.value_and_grad(functools.partial(coupled, n), (0, 1, 2)))(*given)
        for n in (cached, network)
    )
    assert_close(found, expected, tolerance=1e-5, floor=1e-3)


@pytest.mark.parametrize(
    "name", [pytest.param("mae", marks=pytest.mark.slow), "simmim"]
)
def test_holds_the_activations_of_one_micro_batch(name):
    """Four of them: below 0.5 of the compiled memory of the one batch."""
    image = jax.ShapeDtypeStruct((64, 16, 16, 3), jnp.float32)
    index = jax.ShapeDtypeStruct((64,), jnp.int32)
    data = {"index": index, "image": image}

    def memory(**arguments):
        encoder = vit(depth=2, width=32)
        if name == "mae":
            decoder = networks.mae_decoder(width=32, depth=2, heads=2)
            method = methods.mae(encoder, decoder, **arguments)
        else:
            method = methods.simmim(encoder, **arguments)
        params, state = jax.eval_shape(method.init, RNG, data)
        f = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        return temporary_bytes(f.lower(params, state, data, RNG).compile())

    assert memory(micro_batch=16) < 0.5 * memory()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_eight_devices_equal_one(name):
    """Two micro-batches over eight devices, which none of their rows leave."""
    one, params, state = begun(name)
    if "supervised" in name:
        pytest.skip("its batch statistics have too few groups")
    cached = METHODS[name](micro_batch=8)
    expected = step(one, params, state, batch(2))
    mesh = train.data_mesh()
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        data = jax.device_put(batch(2), rows)
        params, state = jax.device_put((params, state), everywhere)
        found = step(cached, params, state, data)
    assert_close(found, expected, tolerance=1e-4, floor=0.05)


class Grouped(nn.Module):
    """A token for the class and one for each patch, with statistics of groups."""

    split: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        if not isinstance(x, networks.Patches):
            x = networks.Patches(networks.patchify(x, 2), jnp.zeros([]))
        tokens = nn.Dense(8)(x.values)
        if x.hidden is not None:
            tokens = jnp.where(x.hidden[..., None], x.token[None, None], tokens)
        tokens = networks.BatchNorm(split=self.split)(tokens, train=train)
        mean = jnp.mean(tokens, axis=1, keepdims=True)
        return jnp.concatenate([mean, jnp.tanh(tokens + mean)], axis=1)


@pytest.mark.parametrize("name", ["ibot", "dino_v2"])
def test_statistics_of_groups_of_tokens(name):
    """Of large views and of crops, both in whole groups."""
    head = networks.projection_head(hidden=16, out=8, batch_norm=False)
    make = functools.partial(
        getattr(methods, name),
        networks.from_linen(Grouped(split=8)),
        head,
        total_steps=10,
        prototypes=12,
    )
    one, cached = make(), make(micro_batch=MICRO)
    params, state = quick_jit(one.init)(RNG, batch())
    expected = step(one, params, state, batch())
    found = step(cached, params, state, batch())
    assert_close(found, expected, tolerance=1e-5, floor=0.05)
    with pytest.raises(UsageError, match=r"\(split=8\) span its 16 micro-batches; "):
        jax.eval_shape(make(micro_batch=1).init, RNG, batch())

"""LeJEPA against the paper's listing, and what each of its terms is for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import sigreg as reference
from reference.networks import linear
from training import on_digits

from rl_jax import augment, methods, networks, train
from rl_jax.errors import UsageError

PARTS = linear(5, 4, 1), linear(4, 3, 2)
OPTIONS = {"weight": 0.3, "slices": 6, "knots": 9, "t_max": 5.0}


def batch(seed, local=3):
    rng, rng_local = jax.random.split(jax.random.key(seed))
    views = jax.random.normal(rng, (6, 2, 5))
    crops = {"local_views": jax.random.normal(rng_local, (6, local, 5))}
    return {"views": views, "image": views[:, 0]} | (crops if local else {})


def paper(kernel, now, rng, *, weight, slices, **options):
    """Algorithm 2: `global_views` and `all_views`, the centre is of the former."""
    a = np.asarray(jax.random.normal(rng, (slices, 3)), np.float64)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    views = [np.asarray(x, np.float64) for n, x in now.items() if "views" in n]
    emb = np.concatenate(views, 1) @ PARTS_64[0] @ kernel
    centres = emb[:, :2].mean(1, keepdims=True)
    sim = np.square(centres - emb).mean()
    spread = reference.sigreg(emb, a, **options)
    return (1 - weight) * sim + weight * spread, sim, spread


PARTS_64 = [np.asarray(p.init(None, None)[0], np.float64) for p in PARTS]


@pytest.mark.parametrize("local", [0, 3])
def test_equals_the_paper(local):
    """Value, and the gradient of the projector: nothing is stopped, nor the centre."""
    method = methods.lejepa(*PARTS, **OPTIONS)
    params, state = method.init(jax.random.key(0), batch(0, local))
    both = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    for t in range(3):
        now, rng = batch(t, local), jax.random.key(t)
        (value, aux), grads = both(params, state, now, rng)

        def exact(kernel, now=now, rng=rng):
            return paper(kernel, now, rng, **OPTIONS)[0]

        expected, *terms = paper(PARTS_64[1], now, rng, **OPTIONS)
        assert_close(value, expected, tolerance=1e-5)
        told = [aux.metrics[name] for name in ("prediction", "sigreg")]
        assert_close(told, terms, tolerance=1e-5)
        slope = central_differences(exact, PARTS_64[1])
        assert_close([grads["projector"]], [*slope], tolerance=1e-4)
        h = np.asarray(now["views"], np.float64) @ PARTS_64[0]
        assert_close(aux.features["h"], h, tolerance=1e-5)
        state = aux.state


def test_the_other_form_is_a_multiple():
    """Of prediction + λ'·SIGReg, with λ = λ'/(1 + λ')."""
    other = 0.25
    method = methods.lejepa(*PARTS, **OPTIONS | {"weight": other / (1 + other)})
    params, state = method.init(jax.random.key(0), batch(0))
    value, aux = method.loss(params, state, batch(1), jax.random.key(1))
    total = aux.metrics["prediction"] + other * aux.metrics["sigreg"]
    np.testing.assert_allclose((1 + other) * value, total, rtol=1e-6)


def test_directions_are_drawn_anew_at_each_step():
    method = methods.lejepa(*PARTS, **OPTIONS)
    params, state = method.init(jax.random.key(0), batch(0))
    values = [method.loss(params, state, batch(1), jax.random.key(t)) for t in (1, 2)]
    found = [aux.metrics for _, aux in values]
    assert found[0]["prediction"] == found[1]["prediction"]
    assert found[0]["sigreg"] != found[1]["sigreg"]


@functools.cache
def trained(weight):
    """Both terms, the mean of the last steps."""
    method = methods.lejepa(
        networks.mlp(features=(128,), out=64),
        networks.projection_head(hidden=64, out=8),
        weight=weight,
        slices=32,
    )
    _, metrics = on_digits(
        method,
        augment.digits(rotate=15.0, shear=10.0),
        train.adamw(learning_rate=3e-3, total_steps=150),
        steps=150,
        batch_size=128,
    )
    return {k: float(metrics[k][-10:].mean()) for k in ("prediction", "sigreg")}


@pytest.mark.slow
def test_without_sigreg_embeddings_become_one():
    """Of the 0.409·B that SIGReg has for a single point at 0, it has most."""
    found = trained(0.0)
    assert found["prediction"] < 0.01
    assert found["sigreg"] > 0.5 * 0.409 * 128


@pytest.mark.slow
def test_with_both_views_agree_and_embeddings_are_gaussian():
    """Of unit variances a prediction error is ½(1 − ρ), ρ the correlation of views."""
    found = trained(0.05)
    assert found["sigreg"] < 3
    assert found["prediction"] < 0.25 < trained(1.0)["prediction"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.5}, r"weight must be in \[0, 1\], got 1.5"),
        ({"slices": 0}, "slices must be at least 1, got 0"),
        ({"knots": 1}, "knots must be at least 2, got 1"),
        ({"t_max": 0.0}, "t_max must be > 0 and finite, got 0.0"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"lejepa: {message}"):
        methods.lejepa(*PARTS, **options)


def test_an_encoder_of_one_size_refuses_smaller_crops():
    method = methods.lejepa(
        networks.mlp(features=(8,), out=8), networks.projection_head(hidden=8, out=4)
    )
    now = {
        "views": jax.ShapeDtypeStruct((4, 2, 8, 8, 1), jnp.float32),
        "local_views": jax.ShapeDtypeStruct((4, 2, 6, 6, 1), jnp.float32),
    }
    with pytest.raises(UsageError, match=r"another shape than \(8, 6, 6, 1\)"):
        jax.eval_shape(method.init, jax.random.key(0), now)
    one = now | {"views": jax.ShapeDtypeStruct((4, 1, 8, 8, 1), jnp.float32)}
    with pytest.raises(UsageError, match="expected two views of each image"):
        jax.eval_shape(method.init, jax.random.key(0), one)

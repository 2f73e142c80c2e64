"""DINO against the paper's loop, and what centring and sharpening each prevent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assignment as reference
from reference.compiled import methods
from training import on_digits

from rl_jax import augment, networks, train
from rl_jax.errors import UsageError
from rl_jax.types import Network


def linear(d_in, d_out, seed):
    """A linear network without state, so that a step can be written out by hand."""

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        return x @ params, state

    kernel = 0.5 * jax.random.normal(jax.random.key(seed), (d_in, d_out))
    return Network(lambda rng, x: (kernel, {}), apply)


PARTS = linear(5, 4, 1), linear(4, 3, 2)


def batch(seed, local=3):
    rng, rng_local = jax.random.split(jax.random.key(seed))
    views = jax.random.normal(rng, (6, 2, 5))
    crops = {"local_views": jax.random.normal(rng_local, (6, local, 5))}
    return {"views": views, "image": views[:, 0]} | (crops if local else {})


def as64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


@pytest.mark.parametrize("local", [0, 3])
def test_equals_the_paper(local):
    """The authors' order: loss with the old centre, centre, update, the teacher."""
    total, tau0, keep = 6, 0.5, 0.7
    method = methods.dino(
        *PARTS, total_steps=total, prototypes=7, student_temperature=0.3,
        teacher_temperature=0.2, warmup_temperature=0.1, warmup_steps=3,
        centre_momentum=keep, decay=tau0,
    )  # fmt: skip
    params, state = method.init(jax.random.key(0), batch(0, local))
    loss = jax.jit(method.loss)
    teacher, centre = as64(params), np.zeros(7)

    def scores(p, x):
        return reference.scores(x @ p["encoder"] @ p["projector"], p["prototypes"])

    for t in range(5):
        now = batch(t, local)
        value, aux = loss(params, state, now, jax.random.key(t))
        views = np.asarray(now["views"], np.float64)
        crops = [np.asarray(x, np.float64) for n, x in now.items() if "views" in n]
        found = scores(teacher, views)
        sharp = 0.1 + 0.1 * min(t / 3, 1)
        q = reference.softmax((found - centre) / sharp)
        student = scores(as64(params), np.concatenate(crops, 1)) / 0.3
        np.testing.assert_allclose(value, reference.swapped(q, student), rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["teacher_temperature"], sharp, rtol=1e-6)
        for name, p in teacher.items():
            np.testing.assert_allclose(aux.state.target[name], p, rtol=1e-4, atol=1e-6)
        centre = keep * centre + (1 - keep) * found.mean((0, 1))
        np.testing.assert_allclose(aux.state.centre, centre, rtol=1e-5, atol=1e-6)

        params = jax.tree.map(lambda p, t=t: p + 0.1 * jnp.cos(p + t), params)
        state = aux.state
        tau = 1 - (1 - tau0) * (np.cos(np.pi * t / total) + 1) / 2
        teacher = jax.tree.map(
            lambda k, s, m=tau: m * k + (1 - m) * s, teacher, as64(params)
        )


def test_the_teacher_carries_no_gradient():
    """With a teacher that follows at once its scores are the student's."""
    options = {"total_steps": 100, "prototypes": 7, "decay": 0.0}
    method = methods.dino(*PARTS, **options)
    now = batch(0, 0)
    params, state = method.init(jax.random.key(0), now)
    grads = jax.grad(lambda p: method.loss(p, state, now, None)[0])(params)

    def student(prototypes):
        z = as64(now["views"]) @ params["encoder"] @ params["projector"]
        fixed = reference.scores(z, params["prototypes"])
        q = reference.softmax(fixed / 0.04)
        return reference.swapped(q, reference.scores(z, prototypes) / 0.1)

    step, w = 1e-6, np.asarray(params["prototypes"], np.float64)
    for index in [(0, 0), (3, 2), (6, 1)]:
        nudge = np.zeros_like(w)
        nudge[index] = step
        slope = (student(w + nudge) - student(w - nudge)) / (2 * step)
        np.testing.assert_allclose(
            grads["prototypes"][index], slope, rtol=1e-3, atol=1e-5
        )


@pytest.mark.slow
def test_frozen_prototypes_do_not_learn_yet():
    method = methods.dino(*PARTS, total_steps=9, prototypes=7, frozen_steps=2)
    params, state = method.init(jax.random.key(0), batch(0))
    moves = []
    for _ in range(3):
        grads, aux = jax.grad(method.loss, has_aux=True)(params, state, batch(0), None)
        moves.append(bool(np.any(grads["prototypes"])))
        assert np.any(grads["projector"])
        state = aux.state
    assert moves == [False, False, True]


@functools.cache
def entropies(**options):
    """Of the teacher's mean targets and of their mean, after training, over log K."""
    method = methods.dino(
        networks.mlp(features=(128,), out=64),
        networks.projection_head(hidden=64, out=32, batch_norm=False),
        total_steps=200,
        prototypes=64,
        decay=0.99,
        **options,
    )
    _, metrics = on_digits(
        method,
        augment.digits(rotate=15.0, shear=10.0),
        train.adamw(learning_rate=2e-3, total_steps=200),
        steps=200,
        batch_size=128,
    )
    return float(metrics["target_entropy"][-1]), float(metrics["usage_entropy"][-1])


@pytest.mark.slow
def test_with_both_targets_are_neither_one_nor_uniform():
    target, usage = entropies()
    assert target < 0.9
    assert usage > 0.85


@pytest.mark.slow
def test_without_centring_one_prototype_wins():
    _, usage = entropies(centre_momentum=1.0)
    assert usage < 0.25


@pytest.mark.slow
def test_without_sharpening_targets_become_uniform():
    target, _ = entropies(teacher_temperature=1.0, warmup_temperature=1.0)
    assert target > 0.999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": 1}, "prototypes must be at least 2, got 1"),
        ({"student_temperature": 0.0}, "student_temperature must be > 0 .* got 0.0"),
        ({"teacher_temperature": -1.0}, "teacher_temperature must be > 0"),
        ({"centre_momentum": 1.1}, r"centre_momentum must be in \[0, 1\], got 1.1"),
        ({"decay": -0.1}, r"decay must be in \[0, 1\], got -0.1"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"dino: {message}"):
        methods.dino(*PARTS, **{"total_steps": 9} | options)


def test_an_encoder_of_one_size_refuses_smaller_crops():
    method = methods.dino(
        networks.mlp(features=(8,), out=8),
        networks.projection_head(hidden=8, out=4),
        total_steps=9,
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

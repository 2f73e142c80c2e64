"""CLIP and SigLIP: the papers' losses, the scale, captions, and what training gives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from reference import assert_close, loop
from reference import losses as reference
from reference.compiled import methods
from reference.machine import make_mesh, share
from reference.networks import linear

from rl_jax import data, evaluate, networks
from rl_jax.errors import UsageError
from rl_jax.methods.clip import held_exp
from rl_jax.methods.image_text import one_of

B, D = 16, 4


WIDE, NARROW = linear(6, 5, 1), linear(3, 7, 2)


def batch(seed=0):
    """Whole numbers, so that either side may be taken for the other."""
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.arange(B, dtype=jnp.int32),
        "image": jnp.asarray(rng.integers(-3, 4, (B, 6)), jnp.float32),
        "tokens": jnp.asarray(rng.integers(-3, 4, (B, 3)), jnp.int32),
    }


def embed(params, given):
    """Embeddings of both sides, in float64."""
    image, tokens = (np.asarray(given[k], np.float64) for k in ("image", "tokens"))
    z = image @ params["encoder"] @ params["encoder_projection"]
    return z, tokens @ params["text"] @ params["text_projection"]


def gradients(method, params, state, given):
    def value(params):
        return method.loss(params, state, given, jax.random.key(0))[0]

    return jax.jit(jax.value_and_grad(value))(params)


def test_clip_equals_the_paper():
    """Towers of unequal width, at the scale the authors start with."""
    method, given = methods.clip(WIDE, NARROW, dim=D), batch()
    params, state = method.init(jax.random.key(0), given)
    assert params["encoder_projection"].shape == (5, D)
    assert params["text_projection"].shape == (7, D)
    assert float(jnp.exp(params["log_scale"])) == pytest.approx(1 / 0.07)
    value, grads = gradients(method, params, state, given)
    expected, (_, _, slope) = reference.clip(
        *embed(params, given), logit_scale=1 / 0.07
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)
    # d/d log s = s d/ds.
    assert float(grads["log_scale"]) == pytest.approx(slope / 0.07, rel=1e-4)


def test_siglip_equals_the_paper():
    method, given = methods.siglip(WIDE, NARROW, dim=D), batch()
    params, state = method.init(jax.random.key(0), given)
    assert float(jnp.exp(params["log_scale"])) == pytest.approx(10)
    assert float(params["bias"]) == -10
    value, grads = gradients(method, params, state, given)
    expected, (_, _, slope, offset) = reference.sigmoid(
        *embed(params, given), logit_scale=10.0, bias=-10.0
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(grads["log_scale"]) == pytest.approx(10 * slope, rel=1e-4)
    assert float(grads["bias"]) == pytest.approx(offset, rel=1e-4)


@pytest.mark.parametrize("factory", [methods.clip, methods.siglip])
def test_symmetric(factory):
    """Texts taken for images and images for texts: the same loss and gradients."""
    given = batch()
    swapped = given | {
        "image": given["tokens"].astype(jnp.float32),
        "tokens": given["image"].astype(jnp.int32),
    }
    one, two = factory(WIDE, NARROW, dim=D), factory(NARROW, WIDE, dim=D)
    params, state = one.init(jax.random.key(0), given)

    def exchange(tree):
        sides = ("encoder", "text"), ("text", "encoder")
        other = {a + end: tree[b + end] for a, b in zip(*sides, strict=True)
                 for end in ("", "_projection")}  # fmt: skip
        return tree | other

    found = gradients(one, params, state, given)
    value, grads = gradients(two, exchange(params), state, swapped)
    assert_close((value, exchange(grads)), found, tolerance=1e-5)


@pytest.mark.parametrize("factory", [methods.clip, methods.siglip])
def test_sharded_equals_one_device(factory):
    """The scale's gradient too: it is a sum over all devices, and taken once."""
    method, given = factory(WIDE, NARROW, dim=D), batch()
    params, state = method.init(jax.random.key(0), given)
    expected = gradients(method, params, state, given)
    assert abs(expected[1]["log_scale"]) > 0.1
    for order in ([0], [1, 0], [2, 0, 3, 1], [5, 2, 7, 0, 3, 6, 1, 4]):
        mesh = make_mesh(order)
        with jax.set_mesh(mesh):
            found = gradients(method, params, state, share(mesh, given))
        assert_close(found, expected, tolerance=2e-6)


def test_micro_batches_change_nothing():
    """Of both towers, also of whole numbers, which have no gradient."""
    given = batch()
    whole, parts = (methods.clip(WIDE, NARROW, micro_batch=n) for n in (None, B // 2))
    params, state = whole.init(jax.random.key(0), given)
    expected = gradients(whole, params, state, given)
    assert_close(gradients(parts, params, state, given), expected, tolerance=1e-5)


# The scale.


def test_the_scale_is_held_at_100_exactly():
    slope = jax.jit(jax.value_and_grad(lambda t, g: g * held_exp(t, 100.0)))
    for t in (math.log(100) + 1e-4, 5.0, 200.0):
        held, pushed = slope(jnp.float32(t), 1.0), slope(jnp.float32(t), -1.0)
        assert held[0] == 100.0
        # A step along the gradient leads back as from the bound; and not farther out.
        assert held[1] == 100.0
        assert pushed[1] == 0.0
    for t in (-3.0, 0.0, 4.6):
        for g in (1.0, -1.0):
            value, grad = slope(jnp.float32(t), g)
            np.testing.assert_allclose(value, g * math.exp(t), rtol=1e-6)
            np.testing.assert_allclose(grad, g * math.exp(t), rtol=1e-6)


def test_the_scale_leaves_the_bound_as_if_it_were_set_back():
    """Beside the authors' loop: a step, then the parameter is cut at log 100.

    Pulled up past the bound and then down. What is frozen at the bound, or drifts on
    beyond it, would stay.
    """
    rate, top = 0.05, math.log(100)
    optimum = [6.0] * 40 + [4.0] * 40

    @jax.jit
    def step(t, target):
        grad = jax.grad(lambda t: (jnp.log(held_exp(t, 100.0)) - target) ** 2)(t)
        return t - rate * grad

    t, authors = jnp.float32(4.0), 4.0
    for target in optimum:
        t = step(t, target)
        authors = min(authors - rate * 2 * (authors - target), top)
        assert abs(min(float(t), top) - authors) < 0.2
        assert float(t) < top + 0.2
    assert abs(float(t) - authors) < 1e-2
    assert authors < 4.02


def test_the_loss_sees_no_larger_scale():
    """Right pairs that are hard to tell apart pull the scale up, wrong ones down."""
    method = methods.clip(WIDE, NARROW, dim=D, temperature=0.02)
    near = 1 + 0.1 * np.random.default_rng(0).normal(size=(3, D))
    right = {
        "index": jnp.arange(3),
        "image": jnp.eye(6)[:3],
        "tokens": jnp.eye(3, dtype=jnp.int32),
    }
    wrong = right | {"tokens": jnp.roll(right["tokens"], 1, axis=0)}
    params, state = method.init(jax.random.key(0), right)
    params |= {
        "encoder": jnp.zeros((6, 5)).at[:3, :D].set(near),
        "text": jnp.zeros((3, 7)).at[:, :D].set(near),
        "encoder_projection": jnp.eye(5, D),
        "text_projection": jnp.eye(7, D),
    }

    @jax.jit
    def step(t, given):
        def value(t):
            now = params | {"log_scale": t}
            return method.loss(now, state, given, jax.random.key(0))

        grad, aux = jax.grad(value, has_aux=True)(t)
        return t - grad, aux.metrics["logit_scale"]

    t, scales = params["log_scale"], []
    for given in [right] * 40 + [wrong] * 10:
        t, scale = step(t, given)
        scales.append(float(scale))
    assert scales[0] == pytest.approx(50)
    assert max(scales) == scales[39] == 100.0
    assert scales[49] < 80


# Captions.


def test_one_caption_is_drawn_by_the_example():
    tokens = jnp.arange(200 * 5 * 2).reshape(200, 5, 2)
    index = jnp.arange(200) + 7
    found = one_of(jax.random.key(0), index, tokens)
    place = np.asarray((found[:, 0] - tokens[:, 0, 0]) // 2)
    np.testing.assert_array_equal(found, tokens[np.arange(200), place])
    counts = np.bincount(place, minlength=5)
    assert counts.min() > 20
    # By its number, wherever it stands; and anew in each step.
    back = one_of(jax.random.key(0), index[::-1], tokens[::-1])
    np.testing.assert_array_equal(back, found[::-1])
    again = one_of(jax.random.key(1), index, tokens)
    assert 0.6 < np.mean(np.any(again != found, axis=1)) < 0.95


def test_encode_gives_what_the_batch_allows():
    method, given = methods.clip(WIDE, NARROW, dim=D), batch()
    params, state = method.init(jax.random.key(0), given)
    image, tokens = ({k: given[k]} for k in ("image", "tokens"))
    z, u = embed(params, given)
    assert set(method.encode(params, state, image)) == {"h", "z"}
    found = method.encode(params, state, tokens)
    assert set(found) == {"text"}
    assert_close(found["text"], u, tolerance=1e-5)
    both = method.encode(params, state, given)
    assert_close(both["z"], z, tolerance=1e-5)

    other = np.roll(given["tokens"], 1, axis=0)
    several = {"tokens": jnp.stack([given["tokens"], other], axis=1)}
    unit = u / np.linalg.norm(u, axis=1, keepdims=True)
    expected = (unit + np.roll(unit, 1, axis=0)) / 2
    found = method.encode(params, state, several)["text"]
    assert_close(found, expected, tolerance=1e-5)
    with pytest.raises(UsageError, match="clip: the batch must have `image`, got"):
        method.encode(params, state, {"index": given["index"]})


# Training: digits and what is said of them.

PROMPTS = data.digit_prompts()


def towers():
    """Of unequal widths, 32 of the text and 48 of the image."""
    vocabulary = data.digits(captions=True).vocabulary
    text = networks.text_transformer(
        vocab_size=len(vocabulary), length=10, width=32, depth=1, heads=2
    )
    return networks.mlp(features=(128,), out=48, batch_norm=False), text


def trained(factory, *, steps=600):
    """`(shuffled) -> ` accuracy with the prompts of training, and with unseen ones."""
    method = factory(*towers(), dim=32)
    train, held = loop.digits()
    tokens = jnp.asarray(PROMPTS.seen)[train["label"]]

    @jax.jit
    def run(rng, order):
        def draw(rng):
            rng_rows, rng_noise, rng_loss = jax.random.split(rng, 3)
            rows = jax.random.randint(rng_rows, (128,), 0, len(tokens))
            image = train["image"][rows]
            image = image + 0.05 * jax.random.normal(rng_noise, image.shape)
            said = tokens[order[rows]]
            return {"index": rows, "image": image, "tokens": said}, rng_loss

        start = method.init(rng, draw(rng)[0])
        rngs = jax.random.split(rng, steps)
        return loop.scan(method, start, draw, rngs, optimizer=optax.adam(1e-3))

    def accuracy(shuffled):
        order = np.arange(len(tokens))
        if shuffled:
            order = np.random.default_rng(0).permutation(order)
        params, state, metrics = run(jax.random.key(0), order)
        z = method.encode(params, state, held)["z"]
        found = []
        for prompts in PROMPTS:
            rows = jnp.asarray(prompts.reshape(-1, prompts.shape[-1]))
            u = method.encode(params, state, {"tokens": rows})["text"]
            u = u.reshape(*prompts.shape[:2], -1)
            found.append(evaluate.zero_shot_accuracy(z, u, held["label"]))
        return found, float(metrics["loss"][-20:].mean())

    return accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "least", "least_unseen"),
    [(methods.clip, 0.95, 0.9), (methods.siglip, 0.93, 0.9)],
)
def test_zero_shot(factory, least, least_unseen):
    """Captions tell the digits apart; those of other images tell nothing."""
    accuracy = trained(factory)
    (seen, unseen), loss = accuracy(shuffled=False)
    (nothing, unseen_nothing), _ = accuracy(shuffled=True)
    print(f"{factory.__name__}: zero-shot {seen:.3f}, unseen templates {unseen:.3f}")
    print(f"captions shuffled: {nothing:.3f}, {unseen_nothing:.3f}; loss {loss:.3f}")
    assert seen >= least
    assert unseen >= least_unseen
    assert max(nothing, unseen_nothing) < 0.3


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "clip: dim must be at least 1, got 0"),
        ({"temperature": 0.0}, "clip: temperature must be > 0 and finite, got 0.0"),
        ({"temperature": 0.001}, "clip: temperature=0.001 starts above.*at least 0.01"),
        ({"largest_scale": math.inf}, "clip: largest_scale must be > 0 and finite"),
    ],
)
def test_clip_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        methods.clip(WIDE, NARROW, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "siglip: dim must be at least 1, got 0"),
        ({"temperature": -1.0}, "siglip: temperature must be > 0 and finite, got -1"),
        ({"bias": math.nan}, "siglip: bias must be finite, got nan"),
    ],
)
def test_siglip_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        methods.siglip(WIDE, NARROW, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, "siglip: the batch must have `tokens`, got"),
        ({"image": None}, "siglip: the batch must have `image`, got"),
        ({"tokens": jnp.zeros(B, jnp.int32)}, r"expected tokens int32 \[B, L\] or"),
        ({"tokens": jnp.zeros((B, 3))}, r"got float32 \(16, 3\)"),
    ],
)
def test_refuses_batches_it_cannot_use(change, message):
    method = methods.siglip(WIDE, NARROW)
    given = {k: v for k, v in (batch() | change).items() if v is not None}
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(method.init, jax.random.key(0), given)


def test_refuses_a_tower_that_does_not_pool():
    text = networks.text_transformer(
        vocab_size=9, length=3, width=8, depth=1, heads=2, pool="none"
    )
    with pytest.raises(UsageError, match=r"clip: text must give one vector.*\(16, 3"):
        jax.eval_shape(methods.clip(WIDE, text).init, jax.random.key(0), batch())

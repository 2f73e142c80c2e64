"""I-JEPA: the paper's loop, what its encoders see, where its gradient ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import masked as reference

from rl_jax import memory, methods, networks
from rl_jax.errors import UsageError
from rl_jax.methods import blocks
from rl_jax.types import Network

DRAWN = {
    "targets": 3,
    "target_scale": (0.1, 0.2),
    "target_aspect": (0.5, 2.0),
    "context_scale": (0.8, 1.0),
}
SHARE, TOTAL, DECAY = 0.3, 4, 0.6


def i_jepa(**arguments):
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="none")
    predictor = networks.jepa_predictor(width=16, depth=1, heads=2)
    given = DRAWN | {"context_share": SHARE, "total_steps": TOTAL, "decay": DECAY}
    return methods.i_jepa(encoder, predictor, **given | arguments)


def images(count=4, seed=1):
    return {
        "index": jnp.arange(count, dtype=jnp.int32),
        "image": jax.random.normal(jax.random.key(seed), (count, 8, 8, 1)),
    }


def masks(rng, index):
    return blocks.draw(rng, index, (4, 4), kept=int(16 * SHARE), **DRAWN)


def patches_of(places):
    """Images with ones in these patches: bool [B, 8, 8, 1] of int [B, K]."""
    seen = np.zeros((len(places), 16, 4), bool)
    np.put_along_axis(seen, np.asarray(places)[..., None], True, axis=1)
    return networks.unpatchify(jnp.asarray(seen), 2, (8, 8, 1))


def test_the_encoder_sees_the_context_alone():
    """Its tokens are bit for bit the same whatever stands in the other patches."""
    method, batch, rng = i_jepa(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    visible = patches_of(masks(rng, batch["index"]).context)
    loss = jax.jit(method.loss)
    one, a = loss(params, state, batch, rng)
    other = jnp.where(visible, batch["image"], -3.0)
    two, b = loss(params, state, batch | {"image": other}, rng)
    np.testing.assert_array_equal(a.features["h"], b.features["h"])
    assert abs(one - two) > 1e-3  # the target encoder sees the whole image
    _, c = loss(params, state, batch | {"image": batch["image"] + visible}, rng)
    assert np.all(np.any(a.features["h"] != c.features["h"], axis=(1, 2)))


def row_wise(name):
    """A linear map of each patch, [B, L, 3]; of images, and of `Patches` of them."""

    def init(rng, x):
        del x
        return {name: jax.random.normal(rng, (4, 3))}, {}

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        patches = x if isinstance(x, networks.Patches) else networks.patchify(x, 2)
        values = getattr(patches, "values", patches)
        return values @ params[name], state

    return Network(init, apply)


def of_the_mean():
    """Linear in the mean visible token and place, the place to tell of, and a count."""

    def init(rng, x):
        del x
        a, b, c, d = jax.random.split(rng, 4)
        return {
            "mean": jax.random.normal(a, (3, 3)),
            "place": jax.random.normal(b, (2, 3)),
            "seen": jax.random.normal(c, (2, 3)),
            "real": jax.random.normal(d, (3,)),
        }, {}

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        seen = jnp.mean(x.tokens, axis=1, keepdims=True) @ params["mean"]
        where = jnp.mean(x.positions.astype(jnp.float32), axis=1, keepdims=True)
        seen += 0.3 * where @ params["seen"]
        count = jnp.sum(x.real, axis=1)[:, None, None]
        seen += 0.1 * count * params["real"][None, None]
        return seen + 0.3 * x.masked.astype(jnp.float32) @ params["place"], state

    return Network(init, apply)


def test_equals_the_papers_loop():
    """Loss, gradient step and target of five steps, patch by patch in float64."""
    method = methods.i_jepa(
        row_wise("w"),
        of_the_mean(),
        total_steps=TOTAL,
        decay=DECAY,
        context_share=SHARE,
        **DRAWN,
    )
    params, state = method.init(jax.random.key(0), images())
    slopes = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    target = np.asarray(params["encoder"]["w"], np.float64)
    for t in range(5):
        batch, rng = images(seed=t), jax.random.key(t)
        w = np.asarray(params["encoder"]["w"], np.float64)
        p = {k: np.asarray(v, np.float64) for k, v in params["predictor"].items()}
        if t:
            # The authors' momentum_scheduler, after the step before.
            m = DECAY + (1 - DECAY) * min(t - 1, TOTAL) / TOTAL
            target = m * target + (1 - m) * w
        cut = np.asarray(networks.patchify(batch["image"], 2), np.float64)
        drawn = jax.tree.map(np.asarray, masks(rng, batch["index"]))
        predicted, goals = [], []
        for i in range(4):
            seen = (cut[i][drawn.context[i]] @ w).mean(0) @ p["mean"]
            places = np.stack(np.divmod(drawn.context[i], 4), axis=1)
            seen = seen + 0.3 * places.mean(0) @ p["seen"]
            whole = reference.standardised(cut[i] @ target)
            for block, there in zip(drawn.targets[i], drawn.counts[i], strict=True):
                here = seen + 0.1 * there.sum() * p["real"]
                for j in block[there]:
                    at = np.asarray(divmod(j, 4), np.float64)
                    predicted.append(here + 0.3 * at @ p["place"])
                    goals.append(whole[j])
        expected, _ = reference.smooth_l1(np.stack(predicted), np.stack(goals))
        (value, aux), grads = slopes(params, state, batch, rng)
        np.testing.assert_allclose(value, expected, rtol=2e-5)
        found = aux.state.target["encoder"]["w"]
        np.testing.assert_allclose(found, target, rtol=1e-5, atol=1e-6)
        state = aux.state
        params = jax.tree.map(lambda p, g: p - 0.3 * g, params, grads)


def test_the_decay_is_counted_in_steps():
    """At the first step network and target are equal; then from τ₀ to exactly 1."""
    method, batch = i_jepa(), images()
    params, state = method.init(jax.random.key(0), batch)
    loss, found = jax.jit(method.loss), []
    for t in range(7):
        _, aux = loss(params, state, batch, jax.random.key(t))
        state = aux.state
        found.append(float(aux.metrics["ema_decay"]))
    expected = [0.6, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[5:] == [1.0, 1.0]
    assert int(state.step) == 7
    assert float(memory.linear_decay(2, start=DECAY, total_steps=TOTAL)) == found[3]


def test_the_target_carries_no_gradient():
    """None by its parameters, and what the image does to it changes none either."""
    method, batch, rng = i_jepa(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)

    @jax.jit
    def by(target, image):
        moved = state._replace(target=target, step=jnp.int32(2))
        return method.loss(params, moved, batch | {"image": image}, rng)[0]

    slopes = jax.grad(by, (0, 1))(state.target, batch["image"])
    assert not any(np.any(g) for g in jax.tree.leaves(slopes[0]))
    context = patches_of(masks(rng, batch["index"]).context)
    beside = np.where(context, 0.0, slopes[1])
    assert not beside.any()
    assert np.abs(slopes[1]).max() > 1e-4


def test_a_collapse_is_seen():
    """An encoder that makes one token of everything has no spread left."""
    method, batch, rng = i_jepa(), images(16), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    loss = jax.jit(method.loss)
    _, aux = loss(params, state, batch, rng)
    assert aux.metrics["target_spread"] > 0.01
    kernel = params["encoder"]["embed"]["kernel"]
    params["encoder"]["embed"]["kernel"] = jnp.zeros_like(kernel)
    state = state._replace(target={"encoder": params["encoder"]})
    _, aux = loss(params, state, batch, rng)
    np.testing.assert_allclose(aux.metrics["target_spread"], 0.0, atol=1e-6)


def test_encode_is_the_mean_of_the_tokens():
    """Of the target encoder, and as online_h of the one that it follows."""
    method, batch = i_jepa(), images()
    params, state = method.init(jax.random.key(0), batch)
    params = jax.tree.map(lambda p: 1.1 * p, params)
    out = jax.jit(method.encode)(params, state, batch)
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="none")
    for name, weights in (
        ("online_h", params["encoder"]),
        ("h", state.target["encoder"]),
    ):
        tokens, _ = encoder.apply(weights, {}, batch["image"], train=False)
        np.testing.assert_allclose(out[name], tokens.mean(1), atol=1e-5)
    assert np.any(np.abs(out["h"] - out["online_h"]) > 1e-3)
    assert {"layer1"} <= out.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.1}, r"decay must be in \[0, 1\], got 1.1"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
        ({"targets": 0}, "targets must be at least 1, got 0"),
        ({"context_share": 0.0}, r"context_share must be in \(0, 1\), got 0.0"),
        ({"context_share": 1.0}, r"context_share must be in \(0, 1\), got 1.0"),
        ({"target_scale": (0.3, 0.2)}, r"target_scale must be least and largest, > 0"),
        ({"target_scale": (0.0, 0.2)}, "target_scale must be .* at most 1, got"),
        ({"context_scale": (0.9, 1.1)}, "context_scale must be .* at most 1, got"),
        ({"target_aspect": (0.5,)}, r"target_aspect must be .* > 0, got \(0.5,\)"),
        ({"target_aspect": (0.5, np.inf)}, "target_aspect must be"),
    ],
)
def test_refused_at_once(arguments, message):
    with pytest.raises(UsageError, match=f"i_jepa: {message}") as error:
        i_jepa(**arguments)
    assert "\n" not in str(error.value)


def with_networks(encoder, predictor):
    return methods.i_jepa(encoder, predictor, total_steps=4)


VIT = networks.vit(patch=2, width=8, depth=1, heads=1, pool="none")
PREDICTOR = networks.jepa_predictor(width=8, depth=1, heads=1)


@pytest.mark.parametrize(
    ("make", "batch", "message"),
    [
        (i_jepa, {"index": jnp.arange(4)}, "i_jepa: the batch must have `image`"),
        (i_jepa, images() | {"image": jnp.zeros((4, 9, 9, 1))}, "patch"),
        (
            lambda: i_jepa(context_share=0.05),
            images(),
            "i_jepa: context_share=0.05 leaves none of 16 patches in; use smaller",
        ),
        (
            lambda: with_networks(networks.mlp(out=8), PREDICTOR),
            images(),
            "i_jepa: encoder must give a token for each patch",
        ),
        (
            lambda: with_networks(VIT, networks.prediction_head(hidden=8, out=8)),
            images(),
            r"expected an array \[B, ...\], got Masked; use",
        ),
        (
            lambda: with_networks(VIT, networks.mae_decoder(width=16)),
            images(),
            "i_jepa: predictor must give the encoder's width for each patch, 8, got",
        ),
    ],
)
def test_refused_before_compiling(make, batch, message):
    def first(rng):
        method = make()
        return method.loss(*method.init(rng, batch), batch, rng)[0]

    with pytest.raises(UsageError, match=message) as error:
        jax.eval_shape(first, jax.random.key(0))
    assert "\n" not in str(error.value)

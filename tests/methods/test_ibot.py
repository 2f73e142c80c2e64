"""iBOT and DINOv2: the papers' loops, what the student sees, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, central_differences
from reference import assignment as reference
from reference.compiled import methods
from reference.koleo import koleo
from training import on_digits

import rl_jax.methods as uncompiled
from rl_jax import augment, networks, train
from rl_jax.errors import UsageError
from rl_jax.losses import distillation
from rl_jax.methods import hiding
from rl_jax.types import Network

B, K, TOTAL, DECAY, KEEP = 5, 7, 6, 0.5, 0.7
DRAWN = {"probability": 0.6, "ratio": (0.2, 0.5)}
MASKED = {"mask_probability": DRAWN["probability"], "mask_ratio": DRAWN["ratio"]}


def encoder():
    """Linear in patches: their mean as class token, and each beside that mean."""

    def init(rng, x):
        del x
        a, b = jax.random.split(rng)
        return {
            "embed": 0.5 * jax.random.normal(a, (4, 3)),
            "cls": jax.random.normal(b, (3, 3)),
        }, {}

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        if isinstance(x, networks.Patches):
            tokens = x.values @ params["embed"]
            tokens = jnp.where(x.hidden[..., None], x.token[None, None], tokens)
        else:
            tokens = networks.patchify(x, 2) @ params["embed"]
        mean = jnp.mean(tokens, axis=1, keepdims=True)
        return jnp.concatenate([mean @ params["cls"], tokens + mean], axis=1), state

    return Network(init, apply)


def head():
    def apply(params, state, x, *, train, rng=None):
        del train, rng
        return x @ params, state

    return Network(lambda rng, x: (jax.random.normal(rng, (3, 2)), {}), apply)


def batch(seed, local=2, count=B):
    rng, rng_local = jax.random.split(jax.random.key(seed))
    views = jax.random.normal(rng, (count, 2, 8, 8, 1))
    crops = {"local_views": jax.random.normal(rng_local, (count, local, 4, 4, 1))}
    index = jnp.arange(3, 3 + count, dtype=jnp.int32)
    found = {"index": index, "views": views, "image": views[:, 0]}
    return found | (crops if local else {})


def hidden_of(rng, index, least):
    drawn = hiding.draw(rng, index, (4, 4), views=2, least=least, **DRAWN)
    return np.asarray(drawn)


def as64(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def patches_of(x):
    """[B, V, H, W, 1] to [B, V, L, 4]."""
    cut = networks.patchify(x.reshape(-1, *x.shape[2:]), 2)
    return np.asarray(cut, np.float64).reshape(*x.shape[:2], -1, 4)


def tokens_of(p, cut, hidden=None):
    """Class tokens [B, V, 3] and patches [B, V, L, 3] of the linear encoder."""
    x = cut @ p["encoder"]["embed"]
    if hidden is not None:
        x = np.where(hidden[..., None], p["mask"], x)
    mean = x.mean(2)
    return mean @ p["encoder"]["cls"], x + mean[:, :, None]


def scores_of(p, cls, patches):
    """Of class tokens and patches, each by the head that is theirs."""
    own = "patch_" if "patch_prototypes" in p else ""
    return (
        reference.scores(cls @ p["projector"], p["prototypes"]),
        reference.scores(patches @ p[f"{own}projector"], p[f"{own}prototypes"]),
    )


def student_loss(p, now, hidden, q, q_patch, *, temperature=0.3, weight=0.0):
    """The papers' loss at fixed targets: classes, patches, neighbours."""
    cls, patches = tokens_of(p, patches_of(now["views"]), hidden)
    large = cls
    if "local_views" in now:
        cls = np.concatenate([cls, tokens_of(p, patches_of(now["local_views"]))[0]], 1)
    s, s_patch = scores_of(p, cls, patches)
    value = reference.swapped(q, s / temperature)
    rows = [
        x.reshape(-1, *x.shape[2:]) for x in (q_patch, s_patch / temperature, hidden)
    ]
    of_patches = reference.patches(*rows)
    apart = koleo(large[:, 0]) + koleo(large[:, 1]) if weight else 0.0
    return value + of_patches + weight * apart, of_patches


def entropy(p):
    return -np.sum(p * np.log(p), axis=-1)


def walk(method, local, *, least, steps):
    """Step after step: parameters, batch, teacher, hidden, gradients, what is told."""
    params, state = method.init(jax.random.key(0), batch(0, local))
    # The authors' begins at zero, where nothing would tell it from a constant.
    params["mask"] = jnp.asarray([0.3, -0.2, 0.5])
    slopes = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    teacher = as64(state.target)
    for t in range(steps):
        now, rng = batch(t, local), jax.random.key(t)
        hidden = hidden_of(rng, now["index"], least)
        found, grads = slopes(params, state, now, rng)
        told = scores_of(teacher, *tokens_of(teacher, patches_of(now["views"])))
        yield as64(params), now, teacher, hidden, told, found, grads
        state = found[1].state
        params = jax.tree.map(lambda p, t=t: p + 0.1 * jnp.cos(p + t), params)
        tau = 1 - (1 - DECAY) * (np.cos(np.pi * t / TOTAL) + 1) / 2
        teacher = jax.tree.map(
            lambda k, s, m=tau: m * k + (1 - m) * s,
            teacher,
            {name: as64(params[name]) for name in teacher},
        )


@pytest.mark.parametrize("shared_head", [True, False])
@pytest.mark.parametrize("local", [0, 2])
def test_ibot_equals_the_papers_loop(shared_head, local):
    """The authors' order: loss with the old centres, centres, update, the teacher."""
    method = uncompiled.ibot(
        encoder(), head(), total_steps=TOTAL, prototypes=K, shared_head=shared_head,
        student_temperature=0.3, teacher_temperature=0.2, patch_temperature=0.3,
        warmup_temperature=0.1, warmup_steps=3, centre_momentum=KEEP, decay=DECAY,
        **MASKED,
    )  # fmt: skip
    centre, patch_centre = np.zeros(K), np.zeros(K)
    for t, step in enumerate(walk(method, local, least=1, steps=4)):
        params, now, teacher, hidden, told, (value, aux), grads = step
        s, s_patch = told
        assert hidden.any()
        sharp, patch_sharp = (0.1 + (end - 0.1) * min(t / 3, 1) for end in (0.2, 0.3))
        q = reference.softmax((s - centre) / sharp)
        q_patch = reference.softmax((s_patch - patch_centre) / patch_sharp)
        run = functools.partial(
            student_loss, now=now, hidden=hidden, q=q, q_patch=q_patch
        )
        expected, of_patches = run(params)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["patch_loss"], of_patches, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["hidden"], hidden.mean(), rtol=1e-6)
        np.testing.assert_allclose(aux.metrics["teacher_temperature"], sharp, rtol=1e-6)
        # The teacher has no mask token: it never sees one.
        assert_close(aux.state.target, teacher, tolerance=1e-5)
        centre = KEEP * centre + (1 - KEEP) * s.mean((0, 1))
        patch_centre = KEEP * patch_centre + (1 - KEEP) * s_patch.mean((0, 1, 2))
        centres = {"cls": centre, "patch": patch_centre}
        assert_close(aux.state.centre, centres, tolerance=1e-5)
        cls, _ = tokens_of(params, patches_of(now["views"]), hidden)
        assert_close(aux.features["h"], cls, tolerance=1e-5)
        soft = entropy(q_patch[hidden]).mean(), entropy(q_patch[hidden].mean(0))
        for name, value in zip(("target", "usage"), soft, strict=True):
            metric = aux.metrics[f"patch_{name}_entropy"]
            np.testing.assert_allclose(metric, value / np.log(K), rtol=1e-5)
        check_slopes(grads, run, params)


@pytest.mark.parametrize("shared_head", [True, False])
@pytest.mark.parametrize("local", [0, 2])
def test_dino_v2_equals_the_papers_loop(shared_head, local):
    method = uncompiled.dino_v2(
        encoder(), head(), total_steps=TOTAL, prototypes=K, shared_head=shared_head,
        student_temperature=0.3, teacher_temperature=0.2, warmup_temperature=0.1,
        warmup_steps=3, koleo_weight=0.2, decay=DECAY, **MASKED,
    )  # fmt: skip
    for t, step in enumerate(walk(method, local, least=4, steps=3)):
        params, now, teacher, hidden, told, (value, aux), grads = step
        s, s_patch = told
        assert hidden.any()
        sharp = 0.1 + 0.1 * t / 3
        assign = functools.partial(reference.sinkhorn, epsilon=sharp, iterations=3)
        q = assign(s.reshape(-1, K)).reshape(s.shape)
        # Of the hidden patches of the whole batch alone.
        q_patch = np.zeros(s_patch.shape)
        q_patch[hidden] = assign(s_patch[hidden])
        run = functools.partial(
            student_loss, now=now, hidden=hidden, q=q, q_patch=q_patch, weight=0.2
        )
        expected, of_patches = run(params)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["patch_loss"], of_patches, rtol=1e-5)
        assert_close(aux.state.target, teacher, tolerance=1e-5)
        assert aux.state.centre == {}
        cls, _ = tokens_of(params, patches_of(now["views"]), hidden)
        apart = (koleo(cls[:, 0]) + koleo(cls[:, 1])) / 2
        np.testing.assert_allclose(aux.metrics["koleo"], apart, rtol=1e-4)
        check_slopes(grads, run, params)


@pytest.mark.parametrize("name", ["ibot", "dino_v2"])
def test_scores_of_patches_in_blocks_change_nothing(name, monkeypatch):
    """Neither loss, diagnostics, centres nor any gradient."""
    method = getattr(uncompiled, name)(
        encoder(), head(), total_steps=TOTAL, prototypes=K, shared_head=False, **MASKED
    )
    now, rng = batch(0), jax.random.key(0)
    params, state = method.init(jax.random.key(0), now)
    if name == "ibot":
        centre = {k: state.centre[k].at[0].set(0.3) for k in ("cls", "patch")}
        state = state._replace(centre=centre)
    found = []
    for block in (distillation.BLOCK_BYTES["cpu"], 4 * K * 7):
        monkeypatch.setitem(distillation.BLOCK_BYTES, "cpu", block)
        slopes = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
        found.append(slopes(params, state, now, rng))
    assert hidden_of(rng, now["index"], 4).sum() > 7
    assert_close(found[1], found[0], tolerance=1e-5, floor=1e-3)


def check_slopes(grads, run, params):
    """At fixed targets: nothing of the teacher has a gradient."""
    leaves, tree = jax.tree.flatten(params)
    numeric = central_differences(
        lambda *leaves: run(jax.tree.unflatten(tree, leaves))[0], *leaves
    )
    assert_close(grads, jax.tree.unflatten(tree, numeric), tolerance=1e-3, floor=1e-2)


def made(factory=methods.ibot, pool="all", **arguments):
    vit = networks.vit(patch=2, width=16, depth=1, heads=2, pool=pool)
    projector = networks.projection_head(hidden=16, out=8, batch_norm=False)
    given = {"total_steps": 9, "prototypes": 12} | MASKED
    return factory(vit, projector, **given | arguments)


def test_nothing_of_the_hidden_is_seen():
    """Class tokens are bit for bit the same whatever stands there; the loss is not."""
    method, now, rng = made(), batch(0), jax.random.key(3)
    params, state = method.init(jax.random.key(0), now)
    hidden = hidden_of(rng, now["index"], 1)
    assert hidden.any()
    assert not hidden.all()
    pixels = hidden.reshape(B, 2, 4, 4).repeat(2, 2).repeat(2, 3)[..., None]
    one, a = method.loss(params, state, now, rng)
    other = now | {"views": jnp.where(pixels, -3.0, now["views"])}
    two, b = method.loss(params, state, other, rng)
    np.testing.assert_array_equal(a.features["h"], b.features["h"])
    assert abs(one - two) > 1e-4  # the teacher sees the whole views
    more = now | {"views": jnp.where(pixels, now["views"], now["views"] + 1)}
    _, c = method.loss(params, state, more, rng)
    assert np.all(np.any(a.features["h"] != c.features["h"], axis=-1))


def test_an_encoder_without_mask_tokens_sees_nothing_of_the_hidden():
    full = encoder()

    def apply(params, state, x, *, train, rng=None):
        if isinstance(x, networks.Patches):
            x = x._replace(hidden=jnp.zeros_like(x.hidden))
        return full.apply(params, state, x, train=train, rng=rng)

    method = methods.ibot(
        full._replace(apply=apply), head(), total_steps=9, prototypes=12, **MASKED
    )
    now, rng = batch(0), jax.random.key(3)
    params, state = method.init(jax.random.key(0), now)
    pixels = hidden_of(rng, now["index"], 1).reshape(B, 2, 4, 4)
    pixels = pixels.repeat(2, 2).repeat(2, 3)[..., None]
    other = now | {"views": jnp.where(pixels, -3.0, now["views"])}
    one, two = (method.loss(params, state, x, rng)[1] for x in (now, other))
    np.testing.assert_array_equal(one.features["h"], two.features["h"])


def test_statistics_of_batches_move_and_the_teacher_follows_them():
    """Those of the heads, in which the student is trained; the encoder has none."""
    projector = networks.projection_head(hidden=4, out=2, batch_norm=True)
    method = methods.ibot(encoder(), projector, total_steps=9, prototypes=12, **MASKED)
    now = batch(0)
    params, state = method.init(jax.random.key(0), now)
    start = jax.tree.leaves(state.online["projector"])
    _, first = method.loss(params, state, now, jax.random.key(1))
    moved = jax.tree.leaves(first.state.online["projector"])
    assert start
    assert all(np.any(a != b) for a, b in zip(start, moved, strict=True))
    _, second = method.loss(params, first.state, now, jax.random.key(2))
    tau = second.metrics["ema_decay"]
    assert 0 < tau < 1
    for old, new, found in zip(
        jax.tree.leaves(first.state.target_state["projector"]),
        moved,
        jax.tree.leaves(second.state.target_state["projector"]),
        strict=True,
    ):
        np.testing.assert_allclose(found, tau * old + (1 - tau) * new, rtol=1e-5)


def test_the_student_has_the_noise_of_training_in_large_views():
    options = {"total_steps": 9, "prototypes": 12, "mask_probability": 0.0}
    projector = networks.mlp(features=(), out=2)
    vit = networks.vit(patch=2, width=8, depth=2, heads=2, pool="all", drop_path=0.5)
    method = methods.ibot(vit, projector, **options)
    now = batch(0, local=0)
    params, state = method.init(jax.random.key(0), now)
    one, two = (
        method.loss(params, state, now, jax.random.key(k))[1].features["h"]
        for k in (1, 2)
    )
    assert np.any(one != two)


@pytest.mark.parametrize(("name", "least"), [("ibot", 9), ("dino_v2", 4)])
def test_blocks_are_at_least_so_large(name, least, monkeypatch):
    """On 9×9 patches: of iBOT a third of the side, of DINOv2 four patches."""
    asked, draw = [], hiding.draw

    def seen(*args, **kwargs):
        asked.append(kwargs["least"])
        return draw(*args, **kwargs)

    monkeypatch.setattr(hiding, "draw", seen)
    method = made(getattr(uncompiled, name))
    views = jnp.zeros((B, 2, 18, 18, 1))
    now = {"index": jnp.arange(B), "views": views, "image": views[:, 0]}
    params, state = jax.eval_shape(method.init, jax.random.key(0), now)
    jax.eval_shape(method.loss, params, state, now, jax.random.key(0))
    assert asked == [least]


@pytest.mark.parametrize("factory", [methods.ibot, methods.dino_v2])
def test_without_hidden_patches_there_is_no_second_loss(factory):
    method, now = made(factory, mask_probability=0.0), batch(0)
    params, state = method.init(jax.random.key(0), now)
    value, aux = method.loss(params, state, now, jax.random.key(3))
    assert aux.metrics["patch_loss"] == aux.metrics["hidden"] == 0
    assert np.isfinite(value)
    assert all(np.isfinite(x) for x in aux.metrics.values())


@pytest.mark.parametrize("factory", [methods.ibot, methods.dino_v2])
def test_hidden_patches_follow_the_example(factory):
    method, now, rng = made(factory), batch(0), jax.random.key(3)
    params, state = method.init(jax.random.key(0), now)
    value, aux = method.loss(params, state, now, rng)
    turned = jax.tree.map(lambda x: x[::-1], now)
    other, back = method.loss(params, state, turned, rng)
    np.testing.assert_allclose(other, value, rtol=1e-5)
    np.testing.assert_allclose(
        back.features["h"][::-1], aux.features["h"], rtol=1e-5, atol=1e-6
    )


def test_encode_gives_the_class_tokens_of_teacher_and_student():
    method, now = made(), batch(0)
    params, state = method.init(jax.random.key(0), now)
    state = state._replace(target=jax.tree.map(lambda x: 1.1 * x, state.target))
    out = method.encode(params, state, now)
    vit = networks.vit(patch=2, width=16, depth=1, heads=2, pool="cls")
    for name, p in (("h", state.target), ("online_h", params)):
        expected, _ = vit.apply(p["encoder"], {}, now["image"], train=False)
        np.testing.assert_allclose(out[name], expected, rtol=1e-5, atol=1e-6)
    assert {"h", "z", "online_h", "layer1"} == set(out)
    projector = networks.projection_head(hidden=16, out=8, batch_norm=False)
    z, _ = projector.apply(state.target["projector"], {}, out["h"], train=False)
    np.testing.assert_allclose(out["z"], z, rtol=1e-5, atol=1e-6)
    layers = networks.layers_of(vit, state.target["encoder"], {}, now["image"])
    np.testing.assert_allclose(out["layer1"], layers["layer1"], rtol=1e-4, atol=1e-5)


def test_the_teacher_has_no_noise():
    """What it tells of a view is the same whatever the student drops and hides."""
    vit = networks.vit(patch=2, width=16, depth=2, heads=2, pool="all", drop_path=0.5)
    projector = networks.projection_head(hidden=16, out=8, batch_norm=False)
    method = methods.ibot(vit, projector, total_steps=9, prototypes=12)
    params, state = method.init(jax.random.key(0), batch(0))
    found = [method.loss(params, state, batch(0), jax.random.key(k)) for k in (1, 2)]
    assert found[0][0] != found[1][0]
    for name in ("target_entropy", "usage_entropy"):
        assert found[0][1].metrics[name] == found[1][1].metrics[name]
    centres = [aux.state.centre for _, aux in found]
    for a, b in zip(*map(jax.tree.leaves, centres), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_prototypes_do_not_learn_yet():
    method = made(shared_head=False, frozen_steps=2)
    params, state = method.init(jax.random.key(0), batch(0))
    run = jax.jit(jax.grad(method.loss, has_aux=True))
    moves = []
    for t in range(3):
        grads, aux = run(params, state, batch(0), jax.random.key(t))
        names = "prototypes", "patch_prototypes"
        moves.append(tuple(bool(np.any(grads[name])) for name in names))
        assert np.any(grads["patch_projector"])
        state = aux.state
    assert moves == [(False, False), (False, False), (True, True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ibot", "dino_v2"])
def test_targets_are_neither_one_nor_uniform(name):
    """Of class tokens and of patches, with what the preset for digits has."""
    method = getattr(methods, name)(
        networks.vit(patch=2, width=48, depth=2, heads=4, pool="all"),
        networks.projection_head(hidden=256, out=64, batch_norm=False),
        total_steps=600,
        prototypes=256,
        teacher_temperature=0.02,
        warmup_temperature=0.02,
        decay=0.99,
        **({"patch_temperature": 0.04} if name == "ibot" else {}),
    )
    _, metrics = on_digits(
        method,
        augment.digits(rotate=15.0, shear=10.0),
        train.adamw(learning_rate=4e-3, total_steps=600, warmup_steps=100, b2=0.95),
        steps=600,
        batch_size=128,
    )
    for kind in ("", "patch_"):
        target, usage = (
            float(metrics[f"{kind}{of}_entropy"][-1]) for of in ("target", "usage")
        )
        print(f"{kind}target {target:.2f}, {kind}usage {usage:.2f}")
        assert 0.05 < target < 0.9
        assert usage > target + 0.05
        assert usage > 0.5


@pytest.mark.parametrize("name", ["ibot", "dino_v2"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": 1}, "prototypes must be at least 2, got 1"),
        ({"student_temperature": 0.0}, "student_temperature must be > 0 .* got 0.0"),
        ({"teacher_temperature": -1.0}, "teacher_temperature must be > 0"),
        ({"warmup_temperature": np.inf}, "warmup_temperature must be > 0 and finite"),
        ({"decay": -0.1}, r"decay must be in \[0, 1\], got -0.1"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"frozen_steps": -1}, "frozen_steps must be at least 0, got -1"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
        ({"mask_probability": 1.5}, r"mask_probability must be in \[0, 1\], got 1.5"),
        ({"mask_ratio": (0.5, 0.1)}, r"mask_ratio must be .*, got \(0.5, 0.1\)"),
    ],
)
def test_refuses_values_out_of_range(name, options, message):
    with pytest.raises(UsageError, match=f"{name}: {message}"):
        made(getattr(uncompiled, name), **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ibot", {"patch_temperature": 0.0}, "patch_temperature must be > 0"),
        ("ibot", {"centre_momentum": 1.1}, r"centre_momentum must be in \[0, 1\]"),
        ("dino_v2", {"koleo_weight": -0.1}, "koleo_weight must be >= 0 .* got -0.1"),
        ("dino_v2", {"sinkhorn_iterations": 0}, "sinkhorn_iterations must be at least"),
    ],
)
def test_refuses_values_out_of_their_own_range(name, options, message):
    with pytest.raises(UsageError, match=f"{name}: {message}"):
        made(getattr(uncompiled, name), **options)


TOKENS = "encoder must give a class token and one for each"


@pytest.mark.parametrize("name", ["ibot", "dino_v2"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "none"}, rf"{TOKENS} square patch, got 16 .*; use a vit with pool="),
        ({"pool": "mean"}, rf"{TOKENS} patch, \[B, 1 \+ L, D\], got \(5, 16\); use a"),
        ({"pool": "cls"}, rf"{TOKENS} patch"),
        ({"mask_ratio": (0.01, 0.05)}, r"mask_ratio=\(0.01, 0.05\) hides none of 4×4"),
    ],
)
def test_refused_before_compiling(name, options, message):
    method = made(getattr(uncompiled, name), **options)
    with pytest.raises(UsageError, match=f"{name}: {message}") as error:
        jax.eval_shape(method.init, jax.random.key(0), batch(0))
    assert "\n" not in str(error.value).split("\n---")[0]


def test_crops_and_views_are_refused_before_compiling():
    vit = networks.vit(
        patch=2, width=16, depth=1, heads=2, pool="all", positions="learned"
    )
    projector = networks.projection_head(hidden=16, out=8, batch_norm=False)
    method = uncompiled.ibot(vit, projector, total_steps=9, prototypes=12)
    with pytest.raises(UsageError, match="learned positions are those of 4×4 patches"):
        jax.eval_shape(method.init, jax.random.key(0), batch(0))
    one = batch(0)
    one["views"] = one["views"][:, :1]
    with pytest.raises(UsageError, match="expected two views of each image"):
        jax.eval_shape(method.init, jax.random.key(0), one)

"""Mixup and CutMix, against NumPy loops and the laws of their shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rl_jax import methods, networks
from rl_jax.errors import UsageError
from rl_jax.methods import mixing
from rl_jax.methods.classifier import cross_entropy


def partner(x):
    """The neighbour of each row of an even number."""
    return np.asarray(x)[np.arange(len(x)) ^ 1]


def images(n, height=16, width=12):
    """Image i is i everywhere, in both channels."""
    values = jnp.arange(n, dtype=jnp.float32)
    return jnp.broadcast_to(values[:, None, None, None], (n, height, width, 2))


def mixed(n=64, seed=0, **arguments):
    index = jnp.arange(n, dtype=jnp.int32)
    mix = jax.jit(lambda rng, x: mixing.mix("test", rng, x, index, **arguments))
    x = images(n)
    return np.asarray(x), *map(np.asarray, mix(jax.random.key(seed), x))


def test_blended():
    x, out, share = mixed(mixup=0.8, cutmix=0.0)
    expected = share[:, None, None, None] * x + (1 - share)[
        :, None, None, None
    ] * partner(x)
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_boxes():
    """Pixels are of one image or the other, those of the other a box, λ the share."""
    x, out, share = mixed(mixup=0.0, cutmix=1.0)
    np.testing.assert_array_equal(out[..., 0], out[..., 1])
    own = out[..., 0] == x[..., 0]
    assert np.all(own | (out[..., 0] == partner(x)[..., 0]))
    np.testing.assert_allclose(share, own.mean((1, 2)), rtol=1e-6)
    for inside in ~own:
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, rows[:, None] & columns[None])
        for line in (rows, columns):
            assert np.sum(np.diff(line.astype(int)) == 1) + line[0] <= 1
    assert 0 < np.mean(~own) < 1


def test_boxes_reach_every_edge():
    x, out, _ = mixed(n=512, mixup=0.0, cutmix=1.0)
    other = (out[..., 0] != x[..., 0]).mean(0)
    assert min(other[0].max(), other[-1].max()) > 0.1
    assert min(other[:, 0].max(), other[:, -1].max()) > 0.1


@pytest.mark.parametrize("alpha", [0.8, 2.0])
def test_shares_have_the_law(alpha):
    """Of Mixup Beta(α, α); of CutMix before edges cut the box, by its area."""
    _, _, share = mixed(n=2000, mixup=alpha, cutmix=0.0)
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    x, out, _ = mixed(n=2000, mixup=0.0, cutmix=alpha)
    inside = out[..., 0] != x[..., 0]
    whole = ~(inside[:, [0, -1]].any((1, 2)) | inside[:, :, [0, -1]].any((1, 2)))
    sides = inside.any(2).sum(1)[whole], inside.any(1).sum(1)[whole]
    for found, pixels in zip(sides, (16, 12), strict=True):
        assert np.all(found % 2 == 0)
        assert found.max() < pixels
    # √(1 − λ) of either side, in whole pixels: the two sides go together.
    assert np.all(np.abs(sides[0] / 16 - sides[1] / 12) < 2 / 12)


def test_each_is_as_likely():
    x, out, share = mixed(n=1000, mixup=1.0, cutmix=1.0)
    cut = ((out == x) | (out == partner(x))).all((1, 2, 3))
    assert 0.4 < cut.mean() < 0.6
    assert np.all((share >= 0) & (share <= 1))


def test_draws_are_those_of_the_example():
    """By its index, not its place: another order of pairs gives the same images."""
    x, index = images(8), jnp.arange(8, dtype=jnp.int32)
    order = jnp.array([4, 5, 2, 3, 1, 0, 7, 6])  # neighbours stay neighbours
    how = {"mixup": 0.8, "cutmix": 1.0}
    rng = jax.random.key(3)
    out, share = mixing.mix("test", rng, x, index, **how)
    again, shares = mixing.mix("test", rng, x[order], index[order], **how)
    np.testing.assert_array_equal(again, out[order])
    np.testing.assert_array_equal(shares, share[order])
    other, _ = mixing.mix("test", jax.random.key(4), x, index, **how)
    assert np.any(np.asarray(other) != np.asarray(out))


def test_the_last_of_an_odd_number_stays():
    x = images(5)
    assert mixing.partners(x)[:, 0, 0, 0].tolist() == [1, 0, 3, 2, 4]
    index = jnp.arange(5, dtype=jnp.int32)
    out, _ = mixing.mix("test", jax.random.key(0), x, index, mixup=0.0, cutmix=1.0)
    np.testing.assert_array_equal(out[4], x[4])


def test_no_image_moves_between_devices():
    """Neighbours are on one device, and permutes of a cached program can deadlock."""
    devices = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.NamedSharding(devices, jax.P("data"))
    x, index = images(32), jnp.arange(32, dtype=jnp.int32)
    mix = jax.jit(
        lambda rng, x, index: mixing.mix("test", rng, x, index, mixup=0.8, cutmix=1.0)
    )
    arguments = jax.random.key(0), *(jax.device_put(v, spread) for v in (x, index))
    text = mix.lower(*arguments).compile().as_text()
    assert len(jax.devices()) == 8
    assert "permute" not in text
    assert "all-" not in text
    whole = mix(jax.random.key(0), x, index)
    for one, other in zip(mix(*arguments), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_cross_entropy_of_mixed_labels():
    """Σ w −log p̃_y / Σ w over both labels, those unknown left out, in NumPy."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4))
    label, other = np.array([0, 1, -1, 3, 2, -1]), np.array([1, -1, 2, 3, 0, -1])
    share, smoothing = rng.uniform(size=6), 0.1
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ce = hits = weight = 0.0
    for i in range(6):
        for y, w in ((label[i], share[i]), (other[i], 1 - share[i])):
            if y < 0:
                continue
            target = np.full(4, smoothing / 4)
            target[y] += 1 - smoothing
            ce -= w * target @ np.log(p[i])
            hits += w * (logits[i].argmax() == y)
            weight += w
    found = cross_entropy(
        jnp.asarray(logits, jnp.float32),
        jnp.asarray(label),
        smoothing=smoothing,
        mixed=(jnp.asarray(other), jnp.asarray(share, jnp.float32)),
    )
    np.testing.assert_allclose(found, (ce / weight, hits / weight), rtol=1e-5)
    nothing = cross_entropy(
        jnp.ones((2, 4)), jnp.array([-1, -1]), mixed=(jnp.array([-1, -1]), jnp.ones(2))
    )
    assert tuple(map(float, nothing)) == (0.0, 0.0)


def test_a_method_learns_from_mixed_images():
    """The loss is that of the mixed images under both labels."""
    encoder = networks.mlp(features=(8,), out=8, batch_norm=False)
    method = methods.supervised(encoder, num_classes=3, mixup=0.8, cutmix=1.0)
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=(10, 6, 6, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 3, 10), jnp.int32),
        "index": jnp.arange(10, dtype=jnp.int32),
    }
    params, state = method.init(jax.random.key(0), batch)
    loss, aux = method.loss(params, state, batch, jax.random.key(7))
    x, share = mixing.mix(
        "test", jax.random.key(7), batch["image"], batch["index"], mixup=0.8, cutmix=1.0
    )
    logits = np.asarray(
        method.encode(params, state, batch | {"image": x})["logits"], np.float64
    )
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    y, share = np.asarray(batch["label"]), np.asarray(share, np.float64)
    rows = np.arange(10)
    each = share * log_p[rows, y] + (1 - share) * log_p[rows, partner(y)]
    np.testing.assert_allclose(loss, -each.mean(), rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["cross_entropy"], loss, rtol=1e-6)


def test_refuses():
    encoder = networks.mlp(features=(8,), out=8)
    for name in ("mixup", "cutmix"):
        for value in (-0.1, float("nan"), float("inf")):
            with pytest.raises(
                UsageError, match=f"{name} must be >= 0 and finite, got"
            ):
                methods.supervised(encoder, num_classes=3, **{name: value})
    method = methods.supervised(encoder, num_classes=3, mixup=0.2)
    batch = {
        "image": jnp.ones((4, 5)), "label": jnp.zeros(4, int), "index": jnp.arange(4)
    }  # fmt: skip
    params, state = method.init(jax.random.key(0), batch)
    with pytest.raises(UsageError, match=r"of images \[B, H, W, C\], got \(4, 5\)"):
        method.loss(params, state, batch, jax.random.key(0))

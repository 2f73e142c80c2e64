"""Made data: the truth it carries is the truth."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from rl_jax.data import (
    digits,
    ica,
    latent_classes,
    oscillators,
    stream,
    strokes,
)
from rl_jax.data.draws import normal, orthogonal, uniform
from rl_jax.data.mixing import mix, random_maps, unmix

MADE = [
    pytest.param(lambda seed=0: ica(per_segment=50, seed=seed), id="ica"),
    pytest.param(lambda seed=0: latent_classes(size=500, seed=seed), id="content"),
    pytest.param(
        lambda seed=0: latent_classes(pairs="class", size=500, seed=seed), id="class"
    ),
    pytest.param(lambda seed=0: oscillators(size=500, seed=seed), id="oscillators"),
]


def r2(x, y):
    """Coefficient of determination of y, predicted linearly from x: in and on top."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - rest.var(axis=0).sum() / y.var(axis=0).sum()


@pytest.mark.parametrize("make", MADE)
def test_same_every_time(make):
    one, two, other = make(), make(), make(seed=1)
    assert one.digest() == two.digest() != other.digest()
    assert one.held_out.digest() == two.held_out.digest() != other.held_out.digest()
    for name, rows in one.fields.items():
        np.testing.assert_array_equal(rows, two.fields[name])
        assert not rows.flags.writeable
        assert rows.dtype in (np.float32, np.int32)


@pytest.mark.parametrize("make", MADE)
def test_held_out_examples_are_others(make):
    source = make()
    assert source.size == 5 * source.held_out.size
    name = "sequence" if "sequence" in source.fields else "image"
    rows = {row.tobytes() for row in source.fields[name]}
    held = {row.tobytes() for row in source.held_out.fields[name]}
    assert (len(rows), len(held)) == (source.size, source.held_out.size)
    assert not rows & held
    # Nor are they made of the same draws.
    one, two = (part.fields["factors"] ** 2 for part in (source, source.held_out))
    pairs = zip(one[: len(two)].T, two.T, strict=True)
    shared = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
    assert abs(np.mean(shared)) < 0.2


@pytest.mark.parametrize("make", MADE)
def test_batches(make):
    source = make()
    with stream(source, seed=0, batch_size=8, num_steps=1) as batches:
        batch = next(batches)
    assert set(batch) == {"index", "label", *source.fields}
    for name, rows in source.fields.items():
        np.testing.assert_array_equal(batch[name], rows[batch["index"]])


def test_draws_never_change():
    # Multiples of 2^-16, so that the last bit of a logarithm does not matter.
    def digest(values):
        whole = np.rint(values * 2**16).astype("<i8")
        return hashlib.sha256(whole.tobytes()).hexdigest()[:16]

    assert digest(uniform(3, 5, (100, 2))) == "f26298c7cf65f76a"
    assert digest(normal(3, 5, (100, 2))) == "a5645da47804509a"
    assert digest(orthogonal(3, 5, 4)) == "7ae12dbb542292bf"


def test_draws_have_their_laws():
    u, x = uniform(0, 0, (40_000,)), normal(0, 0, (200, 200))
    assert 0 <= u.min() < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert stats.kstest(x.ravel(), "norm").pvalue > 0.01
    assert stats.kstest(x[:, 0] + x[:, 1], "norm", (0, 2**0.5)).pvalue > 0.01
    assert abs(np.corrcoef(normal(0, 1, (40_000,)), x.ravel())[0, 1]) < 0.02
    q = orthogonal(0, 0, 6)
    np.testing.assert_allclose(q @ q.T, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 8, 8), (6, 10, 10, 10), (3, 3)])
def test_mixing_can_be_undone(sizes):
    maps = random_maps(7, sizes, gain=1.5)
    x = normal(0, 0, (500, sizes[0]))
    np.testing.assert_allclose(unmix(maps, mix(maps, x)), x, atol=1e-12)


def test_ica_factors_are_the_sources():
    source = ica(sources=3, observed=5, segments=6, per_segment=40, seed=2)
    maps = random_maps(2, (3, 5, 5))
    for part in (source, source.held_out):
        found = unmix(maps, part.fields["image"].astype(np.float64))
        # Rounding to 2^-17, times 1 / 0.2 for the leaky ReLU.
        np.testing.assert_allclose(found, part.fields["factors"], atol=1e-4)
        np.testing.assert_array_equal(np.unique(part.fields["u"]), np.arange(6))
    # No linear map finds them: the mixing is not linear.
    assert r2(source.fields["image"], source.fields["factors"]) < 0.97


def test_ica_sources_are_modulated_by_u_alone():
    source = ica(per_segment=2000)
    factors, u = source.fields["factors"], source.fields["u"]
    assert factors.shape == (60_000, 4)
    np.testing.assert_array_equal(np.bincount(u), [2000] * 30)
    # Variance 1 over all segments; within one, mean 0 and no correlation.
    np.testing.assert_allclose(factors.std(axis=0), 1, atol=0.02)
    within = factors.reshape(30, 2000, 4)
    sd = within.std(axis=1)
    assert np.abs(within.mean(axis=1) / sd).max() < 5 / 2000**0.5
    # A range of ten, as the text of the settings has it, up to the draw.
    spread = sd.max(axis=0) / sd.min(axis=0)
    assert (spread > 5).all()
    assert (spread < 11).all()
    for segment in within:
        off = np.corrcoef(segment.T) - np.eye(4)
        assert np.abs(off).max() < 5 / 2000**0.5
    # The held-out part has the same segments.
    held = source.held_out.fields["factors"].reshape(30, 400, 4).std(axis=1)
    np.testing.assert_allclose(held, sd, rtol=0.2)


def test_latent_classes_share_content_and_nothing_else():
    source = latent_classes()
    fields = source.fields
    maps = random_maps(0, (6, 10, 10, 10), gain=1.5)
    one, two = (unmix(maps, fields[k].astype(np.float64)) for k in ("image", "pair"))
    np.testing.assert_allclose(one, fields["factors"], atol=2e-3)
    for side in (one, two):
        np.testing.assert_allclose(np.linalg.norm(side[:, :3], axis=1), 1, atol=2e-3)
    # The angle of noise .1 in two tangent directions, and styles that are unrelated.
    angle = np.arccos(np.sum(one[:, :3] * two[:, :3], axis=1).clip(-1, 1))
    assert np.sqrt(np.mean(angle**2)) == pytest.approx(0.1 * 2**0.5, rel=0.03)
    cross = np.corrcoef(one[:, 3:].T, two[:, 3:].T)[:3, 3:]
    assert np.abs(cross).max() < 0.03
    np.testing.assert_allclose(one[:, 3:].std(axis=0), 0.5, rtol=0.02)
    # Content is uniform: no mean, equal variances.
    np.testing.assert_allclose(one[:, :3].mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(one[:, :3].T), np.eye(3) / 3, atol=0.01)
    # What a linear map finds in x, as row 14 of the settings has it.
    assert 0.7 < r2(fields["image"], fields["factors"][:, :3]) < 0.95


def test_labels_are_regions_of_content():
    source = latent_classes(size=4000)
    content = source.fields["factors"][:, :3]
    counts = np.bincount(source.labels)
    assert len(counts) == 5 == len(source.class_names)
    assert counts.min() > 400
    # Each class is the content nearest to one centre, hence nearest to its own mean
    # more often than not; and style says nothing.
    means = np.stack([content[source.labels == c].mean(axis=0) for c in range(5)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert np.mean(np.argmax(content @ means.T, axis=1) == source.labels) > 0.9
    style = source.fields["factors"][:, 3:]
    for c in range(5):
        assert np.abs(style[source.labels == c].mean(axis=0)).max() < 0.1


def test_pairs_of_a_class_are_independent_within_it():
    source = latent_classes(pairs="class", size=10_000)
    maps = random_maps(0, (6, 10, 10, 10), gain=1.5)
    one, two = (
        unmix(maps, source.fields[k].astype(np.float64))[:, :3]
        for k in ("image", "pair")
    )
    np.testing.assert_allclose(np.bincount(source.labels), 2000, rtol=0.1)
    for c in range(5):
        a, b = one[source.labels == c], two[source.labels == c]
        np.testing.assert_allclose(a.mean(axis=0), b.mean(axis=0), atol=0.03)
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        assert np.abs(a.T @ b / len(a)).max() < 0.01
        assert 0.2 < np.sqrt((a**2).sum(axis=1).mean()) < 0.6


def test_oscillators_have_the_frequency_of_their_class():
    source = oscillators()
    assert source.fields["sequence"].shape == (4000, 64, 8)
    frequency = source.fields["factors"][:, 0]
    np.testing.assert_allclose(np.unique(frequency), np.linspace(2 / 64, 1 / 4, 8))
    np.testing.assert_array_equal(
        source.labels, np.rint((frequency - 2 / 64) / (frequency.max() - 2 / 64) * 7)
    )
    for part in (source, source.held_out):
        # The strongest line of the spectrum, over all channels.
        x = part.fields["sequence"]
        power = np.abs(np.fft.rfft(x - x.mean(axis=1, keepdims=True), axis=1)) ** 2
        peak = np.argmax(power.sum(axis=2), axis=1) / 64
        near = np.abs(peak - part.fields["factors"][:, 0]) < 1 / 64
        assert near.mean() > 0.95


def test_oscillators_without_noise_follow_the_formula():
    source = oscillators(drift=0.0, noise=0.0, size=50, channels=3)
    frequency, amplitude, phase = source.fields["factors"].T[..., None]
    turn = phase + 2 * np.pi * frequency * np.arange(64)
    z = amplitude[..., None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    seen = np.arctanh(source.fields["sequence"].astype(np.float64))
    # Linear in z up to a bias, all examples with the same map.
    assert r2(z.reshape(-1, 2), seen.reshape(-1, 3)) > 0.9999
    assert amplitude.min() >= 0.5
    assert amplitude.max() < 1.5


def test_one_step_of_an_oscillator_says_nothing_about_the_class():
    source = oscillators(size=8000)
    for t in (0, 31, 63):
        x = source.fields["sequence"][:, t]
        for c in range(8):
            inside, outside = x[source.labels == c], x[source.labels != c]
            pvalues = stats.ks_2samp(inside, outside, axis=0).pvalue
            assert np.min(pvalues) > 1e-5


def test_strokes_are_the_rows_of_the_digits():
    source, images = strokes(), digits()
    for part, other in ((source, images), (source.held_out, images.held_out)):
        assert part.fields["sequence"].shape == (other.size, 8, 8)
        np.testing.assert_array_equal(
            np.rint(part.fields["sequence"] * 255), other.images[..., 0]
        )
        np.testing.assert_array_equal(part.labels, other.labels)
    assert source.class_names == images.class_names
    assert (source.name, source.held_out.name) == ("strokes", "strokes held out")
    assert strokes().digest() == source.digest()


def test_bad_arguments(refused):
    with refused("ica: observed must be >= 4, got 3"):
        ica(observed=3)
    with refused("ica: per_segment must be >= 5, got 4"):
        ica(per_segment=4)
    with refused("ica: sources must be >= 1, got 0"):
        ica(sources=0)
    with refused(r"seed must be in \[0, 2\^64\), got -1"):
        ica(seed=-1)
    with refused("latent_classes: observed must be >= 6, got 5"):
        latent_classes(observed=5)
    with refused("latent_classes: noise must be >= 0, got nan"):
        latent_classes(noise=float("nan"))
    with refused("latent_classes: pairs must be 'content' or 'class', got 'style'"):
        latent_classes(pairs="style")
    with refused("oscillators: classes must be <= steps / 4 - 1 = 15, got 16"):
        oscillators(classes=16)
    with refused("oscillators: steps must be >= 12, got 8"):
        oscillators(steps=8)

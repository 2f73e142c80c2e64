"""The augmentation of a batch: what its randomness depends on, and what not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rl_jax import augment
from rl_jax.errors import UsageError

RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8),
    "index": RNG.permutation(1000)[:16].astype(np.int32),
    "label": np.arange(16),
}
AUGMENT = augment.views(
    partial(augment.random_resized_crop, size=6),
    augment.random_flip,
    partial(augment.random_affine, shift=1.0, rotate=20.0),
    partial(augment.colour_jitter, brightness=0.4, contrast=0.4, p=0.8),
    augment.random_blur,
    partial(augment.pixel_dropout, rate=0.1),
    size=6,
)
VIEWS = jax.jit(AUGMENT.views)


def test_view_depends_on_rng_index_and_view_alone():
    def op(rng, image):
        return image + jax.random.uniform(rng, image.shape)

    out = jax.jit(augment.views(op, op, num_views=3).views)(jax.random.key(5), BATCH)
    assert out["views"].shape == (16, 3, 8, 8, 3)
    for i, v in [(0, 0), (3, 2), (15, 1)]:
        rng = jax.random.fold_in(jax.random.key(5), BATCH["index"][i])
        rng = jax.random.fold_in(rng, v)
        expected = BATCH["image"][i] / np.float32(255)
        for k in range(2):
            expected = op(jax.random.fold_in(rng, k), expected)
        np.testing.assert_allclose(out["views"][i, v], expected, atol=1e-6)


@pytest.mark.slow
def test_views_move_with_their_example_when_the_batch_is_permuted():
    order = RNG.permutation(16)
    permuted = {name: value[order] for name, value in BATCH.items()}
    expected = VIEWS(jax.random.key(0), BATCH)["views"][order]
    got = VIEWS(jax.random.key(0), permuted)["views"]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_views_are_the_same_on_eight_devices_without_communication():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec("data")))
    rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
    compiled = VIEWS.lower(rng, sharded).compile()
    got = compiled(rng, sharded)["views"]
    expected = VIEWS(jax.random.key(0), BATCH)["views"]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert len({shard.data.shape for shard in got.addressable_shards}) == 1
    assert got.addressable_shards[0].data.shape[0] == 2
    program = compiled.as_text()
    for collective in ("all-gather", "all-to-all", "all-reduce", "collective-permute"):
        assert collective not in program


def test_views_differ_from_each_other_between_examples_and_between_steps():
    same = {**BATCH, "image": np.repeat(BATCH["image"][:1], 16, axis=0)}
    first = np.asarray(VIEWS(jax.random.key(0), same)["views"]).reshape(32, -1)
    second = np.asarray(VIEWS(jax.random.key(1), same)["views"]).reshape(32, -1)
    everything = np.concatenate([first, second])
    assert len(np.unique(everything.round(4), axis=0)) == 64
    again = np.asarray(VIEWS(jax.random.key(0), same)["views"]).reshape(32, -1)
    np.testing.assert_array_equal(again, first)


def test_jit_equals_no_jit():
    batch = {name: value[:2] for name, value in BATCH.items()}
    small = augment.views(partial(augment.pixel_dropout, rate=0.3), mean=0.5)
    eager = small.views(jax.random.key(0), batch)
    jitted = jax.jit(small.views)(jax.random.key(0), batch)
    np.testing.assert_allclose(jitted["views"], eager["views"], atol=1e-6)
    np.testing.assert_allclose(jitted["image"], eager["image"], atol=1e-6)


def test_uint8_equals_float_and_everything_is_float32():
    as_float = {**BATCH, "image": BATCH["image"].astype(np.float32) / 255}
    step = jax.jit(augment.views(augment.random_flip, mean=0.5).views)
    got, expected = step(jax.random.key(0), as_float), step(jax.random.key(0), BATCH)
    for name in ("views", "image"):
        assert got[name].dtype == expected[name].dtype == jnp.float32
        np.testing.assert_allclose(got[name], expected[name], atol=1e-6)


def test_batch_gains_clean_images_and_keeps_the_rest():
    batch = dict(BATCH)
    out = VIEWS(jax.random.key(0), batch)
    assert set(batch) == set(BATCH)
    assert set(out) == {*BATCH, "views"}
    np.testing.assert_array_equal(out["index"], BATCH["index"])
    np.testing.assert_array_equal(out["label"], BATCH["label"])
    clean = AUGMENT.clean(BATCH["image"])
    np.testing.assert_allclose(out["image"], clean, atol=1e-6)


def test_clean_standardises_per_channel_and_views_alike():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    plain = augment.views(mean=mean, std=std)
    expected = (BATCH["image"] / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(plain.clean(BATCH["image"]), expected, atol=1e-6)
    views = plain.views(jax.random.key(0), BATCH)["views"]
    for v in range(2):
        np.testing.assert_allclose(views[:, v], expected, atol=1e-6)


def test_clean_crops_larger_images_as_centre_crop_does():
    resized = augment.views(size=5, crop_fraction=0.75)
    got = jax.jit(resized.clean)(BATCH["image"])
    assert got.shape == (16, 5, 5, 3)
    one = BATCH["image"][3] / np.float32(255)
    crop = jax.jit(partial(augment.centre_crop, size=5, fraction=0.75))
    np.testing.assert_allclose(got[3], crop(one), atol=1e-6)


def test_second_view_has_its_own_transforms():
    def invert(rng, image):
        return 1 - image

    def shift(rng, image):
        return image + jax.random.uniform(rng)

    pair = augment.views(shift, second=[shift, invert])
    views = np.asarray(jax.jit(pair.views)(jax.random.key(0), BATCH)["views"])
    image = BATCH["image"] / np.float32(255)
    first, second = views[:, 0] - image, 1 - views[:, 1] - image
    assert np.ptp(first, axis=(1, 2, 3)).max() < 1e-5
    assert np.ptp(second, axis=(1, 2, 3)).max() < 1e-5
    assert (np.abs(first - second)[:, 0, 0, 0] > 1e-4).all()


def test_what_finishes_views_sees_them_standardised_and_draws_for_itself():
    def noise(rng, image):
        return image + jax.random.uniform(jax.random.fold_in(rng, 0), image.shape)

    def seen(rng, image):
        return jnp.stack([image, jax.random.uniform(rng, image.shape)])

    options = {"num_views": 3, "mean": 0.5, "std": 0.25, "local": [noise]}
    usual = augment.views(noise, **options, num_local=2)
    finished = augment.views(noise, **options, num_local=2, finish=[seen])
    expected, got = (
        jax.jit(made.views)(jax.random.key(0), BATCH) for made in (usual, finished)
    )
    for name in ("image", "local_views"):
        np.testing.assert_array_equal(got[name], expected[name])
    image, drawn = got["views"][:, :, 0], np.asarray(got["views"][:, :, 1])
    np.testing.assert_allclose(image, expected["views"], atol=1e-6)
    assert 0 <= drawn.min() <= drawn.max() <= 1  # standardised no more
    before = 0.25 * expected["views"] + 0.5 - BATCH["image"][:, None] / np.float32(255)
    correlation = np.corrcoef(before.ravel(), drawn.ravel())[0, 1]
    assert abs(correlation) < 0.05
    assert len(np.unique(drawn[..., 0, 0, 0])) == 48


def test_compose_applies_in_order_and_an_appended_step_changes_no_draw():
    def draw(rng, image):
        return image + jax.random.uniform(rng)

    rng, image = jax.random.key(0), jnp.zeros((1, 1, 1))
    doubled = augment.compose(draw, lambda _, x: 2 * x)
    np.testing.assert_allclose(
        doubled(rng, image), 2 * augment.compose(draw)(rng, image), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_views": 0}, r"num_views must be >= 1, got 0"),
        ({"std": 0.0}, r"std must be > 0, got 0\.0"),
        ({"std": float("nan")}, r"std must be > 0, got nan"),
        ({"std": (0.5, -0.5, 0.5)}, r"std must be > 0, got"),
        ({"size": 0}, r"size must be >= 1, got 0"),
        ({"std": float("inf")}, r"std must be finite, got inf"),
        ({"mean": (0.5, float("nan"), 0.5)}, r"mean must be finite, got"),
        ({"num_views": 1.5}, r"num_views must be an integer, got 1\.5"),
        ({"num_local": 1.5}, r"num_local must be an integer, got 1\.5"),
        ({"size": 2.5}, r"size must be an integer, got 2\.5"),
        ({"crop_fraction": 0.0}, r"crop_fraction must be in \(0, 1\], got 0\.0"),
        ({"num_views": 3, "second": []}, r"num_views must be 2 where `second`"),
    ],
)
def test_views_names_wrong_arguments(options, message):
    with pytest.raises(UsageError, match=message):
        augment.views(**options)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"image": BATCH["image"]}, r"must have `image` and `index`, got \['image'\]"),
        (
            {**BATCH, "index": BATCH["index"][:15]},
            r"index must be \[16\] integers, .* got int32 of shape \(15,\)",
        ),
        ({**BATCH, "index": BATCH["index"][:, None]}, r"got int32 of shape \(16, 1\)"),
        ({**BATCH, "index": np.arange(16.0)}, r"\[16\] integers, .* got float32"),
        ({**BATCH, "image": BATCH["image"][0]}, r"\[B, H, W, C\], got shape \(8, 8, 3"),
        ({**BATCH, "image": BATCH["image"].astype(int)}, r"uint8 .* got int64"),
        ({**BATCH, "image": BATCH["image"][..., :2]}, r"one per channel, got 3"),
    ],
)
def test_batches_that_do_not_fit_are_named(batch, message):
    plain = augment.views(mean=(0.5, 0.5, 0.5))
    with pytest.raises(UsageError, match=message):
        plain.views(jax.random.key(0), batch)


def test_legacy_keys_work():
    plain = jax.jit(augment.views(augment.random_flip).views)
    old = plain(jax.random.PRNGKey(0), BATCH)["views"]
    new = plain(jax.random.key(0), BATCH)["views"]
    np.testing.assert_array_equal(old, new)


def test_grey_images_take_the_mean_over_channels():
    plain = augment.views(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.5))
    grey = augment.views(mean=0.2, std=0.75)
    image = BATCH["image"][..., :1]
    np.testing.assert_allclose(plain.clean(image), grey.clean(image), atol=1e-6)

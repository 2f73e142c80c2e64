"""Two large views and several small crops of each image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rl_jax import augment
from rl_jax.augment import presets
from rl_jax.errors import UsageError

RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (16, 12, 12, 3), dtype=np.uint8),
    "index": RNG.permutation(1000)[:16].astype(np.int32),
}


def made(num_local, **options):
    """Of noise in each view, so that every draw shows."""

    def jitter(rng, image):
        return image + jax.random.uniform(rng, image.shape)

    crop = partial(augment.random_resized_crop, size=5, scale=(0.2, 0.5))
    return augment.views(
        jitter, local=(crop, jitter), num_local=num_local, mean=0.5, std=2.0, **options
    )


def test_shapes_and_types():
    out = jax.jit(made(3).views)(jax.random.key(0), BATCH)
    assert out["views"].shape == (16, 2, 12, 12, 3)
    assert out["local_views"].shape == (16, 3, 5, 5, 3)
    assert out["local_views"].dtype == jnp.float32
    assert "local_views" not in jax.eval_shape(made(0).views, jax.random.key(0), BATCH)


def test_a_crop_depends_on_rng_index_and_number_alone():
    out = jax.jit(made(2).views)(jax.random.key(5), BATCH)["local_views"]
    for i, v in [(0, 0), (7, 1)]:
        rng = jax.random.fold_in(jax.random.key(5), BATCH["index"][i])
        rng = jax.random.fold_in(rng, 2 + v)
        expected = BATCH["image"][i] / np.float32(255)
        expected = augment.random_resized_crop(
            jax.random.fold_in(rng, 0), expected, size=5, scale=(0.2, 0.5)
        )
        expected += jax.random.uniform(jax.random.fold_in(rng, 1), expected.shape)
        np.testing.assert_allclose(out[i, v], (expected - 0.5) / 2, atol=1e-5)


@pytest.mark.parametrize("second", [False, True])
def test_the_large_views_are_those_without_crops(second):
    options = {"second": [augment.random_flip]} if second else {}
    rng = jax.random.key(0)
    views = [jax.jit(made(n, **options).views)(rng, BATCH)["views"] for n in (0, 1, 4)]
    np.testing.assert_allclose(views[1], views[0], atol=1e-6)
    np.testing.assert_allclose(views[2], views[0], atol=1e-6)


def test_every_crop_is_another():
    same = {**BATCH, "image": np.repeat(BATCH["image"][:1], 16, axis=0)}
    out = jax.jit(made(4).views)(jax.random.key(0), same)["local_views"]
    rows = np.asarray(out).reshape(64, -1)
    assert len(np.unique(rows.round(4), axis=0)) == 64


def test_crops_are_the_same_on_eight_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec("data")))
    rng = jax.device_put(jax.random.key(0), NamedSharding(mesh, PartitionSpec()))
    step = jax.jit(made(3).views)
    got = step(rng, sharded)["local_views"]
    expected = step(jax.random.key(0), BATCH)["local_views"]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got.addressable_shards[0].data.shape[0] == 2


@pytest.mark.slow
def test_digits_crops_show_a_part_of_the_digit():
    """On a ramp, a crop without other changes has the mean of the place it is from."""
    ramp = np.tile(np.linspace(0, 1, 8, dtype=np.float32)[:, None, None], (1, 8, 1))
    batch = {"image": np.repeat(ramp[None], 64, 0), "index": np.arange(64)}
    made = presets.digits(
        shift=0.0, rotate=0.0, shear=0.0, scale=(1.0, 1.0), brightness=0.0, noise=0.0,
        num_local=3, local_size=6, local_scale=(0.25, 0.25),
    )  # fmt: skip
    out = jax.jit(made.views)(jax.random.key(0), batch)
    assert out["local_views"].shape == (64, 3, 6, 6, 1)
    raw = np.asarray(out["local_views"]) * presets.DIGITS_STD + presets.DIGITS_MEAN
    height = raw.mean((3, 4))[..., -1] - raw.mean((3, 4))[..., 0]
    # A quarter of the area is about half the height: 4 of 8 pixels, 3.3 between ends.
    assert 0.3 < height.mean() < 0.6
    assert raw.mean((2, 3, 4)).std() > 0.1


@pytest.mark.slow
def test_multi_crop_makes_both_sizes():
    batch = {"image": jnp.zeros((2, 20, 26, 3), jnp.uint8), "index": jnp.arange(2)}
    made = presets.multi_crop(size=16, local_size=8, num_local=4, blur=(1.0, 0.1))
    out = jax.jit(made.views)(jax.random.key(0), batch)
    assert out["views"].shape == (2, 2, 16, 16, 3)
    assert out["local_views"].shape == (2, 4, 8, 8, 3)
    assert out["image"].shape == (2, 16, 16, 3)
    assert jnp.isfinite(out["local_views"]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.views(num_local=-1), "num_local must be >= 0, got -1"),
        (lambda: augment.views(num_local=2), "num_local=2 without `local`"),
        (lambda: presets.digits(num_local=1, local_size=0), "size must be >= 1, got 0"),
        (lambda: presets.multi_crop(local_scale=(0.5, 2.0)), "scale must be"),
        (lambda: presets.multi_crop(local_blur=1.5), r"p must be in \[0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()

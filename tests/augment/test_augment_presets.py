"""The presets: flags, constants, and what they do to images."""

import inspect
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from rl_jax.augment import presets, views
from rl_jax.errors import UsageError
from rl_jax.types import Augment

FACTORIES = [getattr(presets, name) for name in presets.__all__]


@pytest.mark.parametrize("factory", FACTORIES)
def test_flags_are_keywords_of_simple_types_with_defaults(factory):
    hints = typing.get_type_hints(factory)
    for name, parameter in inspect.signature(factory).parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        several = (tuple[float, float], tuple[float, float, float])
        simple = (int, int | None, float, bool, *several)
        assert hints[name] in simple
        assert parameter.default is not inspect.Parameter.empty
        assert f"{name}" in factory.__doc__


def test_digits_constants_are_those_of_the_data():
    images = load_digits().images / 16
    assert abs(images.mean() - presets.DIGITS_MEAN) < 1e-3
    assert abs(images.std() - presets.DIGITS_STD) < 1e-3
    image = np.round(load_digits().images * 255 / 16).astype(np.uint8)[..., None]
    clean = presets.digits().clean(image)
    assert clean.shape == (1797, 8, 8, 1)
    assert abs(clean.mean()) < 1e-3
    assert abs(clean.std() - 1) < 1e-3


def test_digits_views_stay_close_to_the_digit():
    image = np.round(load_digits().images[:64] * 255 / 16).astype(np.uint8)[..., None]
    batch = {"image": image, "index": np.arange(64)}
    out = jax.jit(presets.digits(num_views=3).views)(jax.random.key(0), batch)
    assert out["views"].shape == (64, 3, 8, 8, 1)
    clean = np.asarray(out["image"]).reshape(64, -1)
    views = np.asarray(out["views"])
    for v in range(3):
        view = views[:, v].reshape(64, -1)
        own = (clean * view).mean(axis=1)
        other = (clean[np.roll(np.arange(64), 1)] * view).mean(axis=1)
        assert own.mean() > other.mean() + 0.2
        assert np.abs(view - clean).mean() > 0.1


@pytest.mark.slow
def test_imagenet_views_and_clean_images_have_the_size():
    batch = {
        "image": jnp.zeros((2, 20, 26, 3), jnp.uint8),  # constant: no NaN either
        "index": jnp.arange(2),
    }
    out = jax.jit(presets.imagenet(size=16).views)(jax.random.key(0), batch)
    assert out["views"].shape == (2, 2, 16, 16, 3)
    assert out["image"].shape == (2, 16, 16, 3)
    black = -np.array(presets.IMAGENET_MEAN) / presets.IMAGENET_STD
    np.testing.assert_allclose(
        out["image"], np.broadcast_to(black, (2, 16, 16, 3)), atol=1e-5
    )
    assert jnp.isfinite(out["views"]).all()


def test_imagenet_solarises_the_second_view():
    augment = presets.imagenet(
        size=8,
        crop_scale=(1.0, 1.0),  # on a square image: all of it
        flip=0.0,
        jitter=0.0,
        grey=0.0,
        blur=(0.0, 0.0),
        solarise=(0.0, 1.0),
    )
    image = np.random.default_rng(0).random((4, 8, 8, 3), dtype=np.float32)
    batch = {"image": image, "index": np.arange(4)}
    views = jax.jit(augment.views)(jax.random.key(0), batch)["views"]
    mean, std = np.array(presets.IMAGENET_MEAN), np.array(presets.IMAGENET_STD)
    raw = np.asarray(views) * std + mean
    np.testing.assert_allclose(raw[:, 0], image, atol=1e-5)
    expected = np.where(image < 0.5, image, 1 - image)
    np.testing.assert_allclose(raw[:, 1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (
            presets.digits,
            {"noise": -0.1},
            r"gaussian_noise: sd must be >= 0, got -0\.1",
        ),
        (presets.digits, {"scale": (1.2, 0.8)}, r"random_affine: scale must be"),
        (presets.digits, {"num_views": 0}, r"num_views must be >= 1"),
        (presets.cifar, {"grey": 1.2}, r"random_greyscale: p must be in \[0, 1\]"),
        (presets.cifar, {"size": 0}, r"size must be >= 1, got 0"),
        (presets.imagenet, {"blur": (0.5, 2.0)}, r"random_blur: p must be in \[0, 1\]"),
        (presets.imagenet, {"blur": (0.5,)}, r"imagenet: blur must be two numbers"),
        (
            presets.imagenet,
            {"solarise": 0.5},
            r"solarise must be two numbers, got 0\.5",
        ),
        (presets.multi_crop, {"blur": (0, 0, 0)}, r"multi_crop: blur must be two numb"),
        (
            presets.cifar,
            {"crop_scale": (0.2,)},
            r"scale must be \(low, high\) .*\(0\.2,",
        ),
        (
            presets.cifar,
            {"crop_scale": 0.2},
            r"scale must be \(low, high\) .* got 0\.2",
        ),
        (presets.cifar, {"size": 32.5}, r"size must be an integer, got 32\.5"),
        (presets.cifar, {"hue": None}, r"hue must be in \[0, 0\.5\], got None"),
        (presets.digits, {"num_views": 1.5}, r"num_views must be an integer"),
        (
            presets.digits,
            {"num_local": 1, "local_size": 2.5},
            r"size must be an integer",
        ),
        (
            presets.cifar,
            {"rand_augment": 11.0},
            r"rand_augment: magnitude must be in \[0, 10\], got 11\.0",
        ),
        (
            presets.imagenet,
            {"erasing": -0.25},
            r"random_erasing: probability must be in \[0, 1\], got -0\.25",
        ),
        (presets.imagenet, {"rand_augment": None}, r"magnitude must be .* got None"),
        (presets.imagenet, {"num_views": 3}, r"num_views must be 2 where `second`"),
        (presets.imagenet, {"num_views": 0}, r"num_views must be >= 1, got 0"),
        (presets.plain, {"size": 8.5}, r"plain: size must be an integer, got 8\.5"),
        (presets.plain, {"mean": float("nan")}, r"plain: mean must be finite, got nan"),
    ],
)
def test_wrong_flags_fail_in_the_factory(factory, options, message):
    with pytest.raises(UsageError, match=message):
        factory(**options)


WITHOUT = {"crop_scale": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
UNCOLOURED = {"blur": (0.0, 0.0), "solarise": (0.0, 0.0)}


@pytest.mark.parametrize(
    ("factory", "channels"),
    [
        (partial(presets.cifar, size=16, **WITHOUT), 1),
        (partial(presets.imagenet, size=16, **WITHOUT, **UNCOLOURED), 3),
    ],
)
def test_views_for_labels_have_operations_and_noise(factory, channels):
    image = np.random.default_rng(0).integers(60, 180, (64, 16, 16, channels), np.uint8)
    batch = {"image": image, "index": np.arange(64)}

    def views(**options):
        augment = factory(num_views=1, **options)
        drawn = jax.jit(augment.views)(jax.random.key(0), batch)
        assert drawn["views"].shape == (64, 1, 16, 16, channels)
        return np.asarray(drawn["image"]), np.asarray(drawn["views"][:, 0])

    clean, same = views()
    np.testing.assert_allclose(same, clean, atol=1e-5)
    for options, likely in (
        # Some of those applied change nothing, as colour where there is none.
        ({"rand_augment": 9.0}, (0.6, 0.85)),
        ({"erasing": 0.25}, (0.1, 0.4)),
    ):
        again, changed = views(**options)
        np.testing.assert_array_equal(again, clean)  # evaluation sees neither
        share = np.mean(np.abs(changed - clean).max(axis=(1, 2, 3)) > 1e-3)
        assert likely[0] <= share <= likely[1], options


def test_the_second_view_has_operations_too():
    """Where blur and solarisation of the two differ, their transforms do."""
    options = WITHOUT | {"blur": (0.0, 0.0), "solarise": (0.0, 1e-9)}
    augment = presets.imagenet(size=16, rand_augment=9.0, **options)
    image = np.random.default_rng(0).integers(60, 180, (64, 16, 16, 3), np.uint8)
    batch = {"image": image, "index": np.arange(64)}
    drawn = jax.jit(augment.views)(jax.random.key(0), batch)
    for v in range(2):
        changed = np.abs(drawn["views"][:, v] - drawn["image"]).max(axis=(1, 2, 3))
        assert 0.6 < np.mean(changed > 1e-3) < 0.85


def test_one_view_of_imagenet_is_the_first_of_two():
    batch = {"image": np.zeros((2, 8, 8, 3), np.uint8) + 99, "index": np.arange(2)}
    two, one = (
        jax.jit(presets.imagenet(size=8, **options).views)(jax.random.key(0), batch)
        for options in ({}, {"num_views": 1})
    )
    np.testing.assert_allclose(one["views"], two["views"][:, :1], atol=1e-6)


def test_plain_standardises_as_views_do():
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    for options in ({"mean": mean, "std": std}, {"mean": 0.5, "std": 0.25}, {}):
        expected = views(**options).clean(image)
        np.testing.assert_array_equal(presets.plain(**options).clean(image), expected)
    with pytest.raises(UsageError, match="one per channel, got 2 for an image of"):
        presets.plain(mean=(0.1, 0.2)).clean(image)


def test_plain_needs_images():
    with pytest.raises(UsageError, match=r"must have `image`, got \['index'\]"):
        presets.plain().views(jax.random.key(0), {"index": np.arange(2)})


@pytest.mark.parametrize("always", [0, 1])
def test_probabilities_may_be_whole_numbers(always):
    pair = (always, always)
    for made in (
        presets.cifar(flip=always, grey=always, jitter=always),
        presets.imagenet(size=8, flip=always, grey=always, solarise=pair, blur=pair),
        presets.multi_crop(size=8, local_size=4, flip=always, solarise=pair),
        presets.digits(dropout=always),
    ):
        assert isinstance(made, Augment)

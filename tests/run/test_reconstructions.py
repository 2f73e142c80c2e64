"""What the page shows of what a method makes of images again."""

import jax
import numpy as np
import pytest

from rl_jax.cli.recipe import read
from rl_jax.run import figures, pretrain
from rl_jax.run import recipe as recipes
from rl_jax.run.split import Part, split
from rl_jax.run.trained import Run


def run_of(*words):
    asked = read("pretrain", [*words, "--data", "digits"])
    parts = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, parts)()
    return Run(asked.recipe, {}, parts, 7, state, state, None)


def scored(run) -> Part:
    return split(run.parts.source)[1]


@pytest.mark.parametrize("method", ["vae", "linear_autoencoder"])
def test_images_and_what_is_made_of_them(method):
    run = run_of(method)
    part = scored(run)
    found = figures.reconstructed(run, part)
    assert set(found) == {"originals", "remade"}
    few = np.linspace(0, len(part.index) - 1, 8).round().astype(int)
    images = part.source.images[part.index[few]]
    # Clean images are standardised: what is shown is the image again, in 8 bits.
    np.testing.assert_allclose(found["originals"].astype(int), images, atol=1)
    clean = run.parts.augment.clean(images)
    out = run.parts.method.encode(run.state.params, run.state.state, {"image": clean})
    low = run.parts.augment.clean(np.zeros_like(images))
    high = run.parts.augment.clean(np.full_like(images, 255))
    remade = np.reshape(out["reconstruction"], clean.shape)
    expected = 255 * np.clip((remade - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found["remade"].astype(float), expected, atol=1.01)


@pytest.mark.parametrize("method", ["mae", "simmim"])
def test_what_was_not_shown_is_grey_and_the_rest_is_copied(method):
    run = run_of(method)
    found = figures.reconstructed(run, scored(run))
    seen, images, remade = found["seen"], found["originals"], found["remade"]
    copied = (seen == images) & (remade == images)
    grey = seen == 128
    assert (copied | grey).all()
    ratio = float(run.recipe.method.arguments["mask_ratio"])
    assert (~copied).mean() == pytest.approx(ratio, abs=0.15)
    changed = jax.tree.map(lambda x: x * 0.5 + 0.1, run.state.params)
    other = run._replace(state=run.state._replace(params=changed))
    again = figures.reconstructed(other, scored(run))
    np.testing.assert_array_equal(again["originals"], images)
    assert (again["remade"] != remade).any()


def test_a_method_that_makes_none_has_none():
    run = run_of("simclr")
    assert figures.reconstructed(run, scored(run)) == {}

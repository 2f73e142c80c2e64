"""What a run gives an evaluation: views of the scored images."""

import jax
import numpy as np

from rl_jax.cli.recipe import read
from rl_jax.run import pretrain, studies
from rl_jax.run import recipe as recipes
from rl_jax.run.measures.study import spread
from rl_jax.run.split import split
from rl_jax.run.trained import Run


def run_of(*words):
    small = ["--encoder", "mlp", "--encoder.features", "4", "--encoder.out", "4"]
    asked = read("pretrain", [*words, *small])
    parts = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, parts)()
    return Run(asked.recipe, {}, parts, 7, state, state, None)


def test_views_are_those_of_the_augmentation(monkeypatch):
    """Two of every scored image; of some many, the first two of them the same."""
    monkeypatch.setattr(studies, "MAX_IMAGES", 300)
    run = run_of("simclr")
    fit, scored, _ = split(run.parts.source)
    study = studies.study(run, fit, scored)
    assert study.clouds is not None
    clouds = study.clouds()
    assert clouds.keys() == study.views.keys() == {"h", "z"}
    rows = spread(500, 300)
    for name, views in clouds.items():
        assert views.shape[:2] == (300, studies.MANY_VIEWS)
        for k, one in enumerate(study.views[name]):
            assert len(one) == 500
            np.testing.assert_allclose(views[:, k], one[rows], rtol=1e-5, atol=1e-6)
        # Each has noise of its own.
        first = views[0]
        gaps = np.linalg.norm(first[:, None] - first[None], axis=-1)
        assert np.all(gaps[~np.eye(len(first), dtype=bool)] > 0)

    source = run.parts.source.held_out
    batch = {"image": source.images[:5], "index": np.arange(5, dtype=np.int32)}
    drawn = run.parts.augment.views(jax.random.key(run.recipe.seed), batch)
    for k, one in enumerate(study.views["h"]):
        clean = drawn | {"image": drawn["views"][:, k]}
        h = run.parts.method.encode(run.state.params, run.state.state, clean)["h"]
        np.testing.assert_allclose(one[:5], h, rtol=1e-4, atol=1e-6)


def test_a_method_without_views_has_none():
    run = run_of("vib")
    fit, scored, _ = split(run.parts.source)
    study = studies.study(run, fit, scored)
    assert study.views == {}
    assert study.clouds is not None
    assert study.clouds() == {}


def test_of_a_method_of_one_view_two_are_drawn(monkeypatch):
    """The first as in training, the second with noise of its own; so of many."""
    monkeypatch.setattr(studies, "MAX_IMAGES", 20)
    run = run_of("supervised")
    fit, scored, _ = split(run.parts.source)
    study = studies.study(run, fit, scored)
    many = study.clouds()["h"]
    assert many.shape == (20, studies.MANY_VIEWS, 4)
    gaps = np.linalg.norm(many[:, :, None] - many[:, None], axis=-1)
    # Both may be zero, behind a ReLU, but for few images.
    differ = (gaps > 0).mean(0)
    assert np.all(differ[~np.eye(studies.MANY_VIEWS, dtype=bool)] > 0.7)
    first, second = study.views["h"]
    assert first.shape == second.shape == (500, 4)
    assert np.mean(np.linalg.norm(first - second, axis=-1) > 0) > 0.9
    seed = jax.random.key(run.recipe.seed)
    source = run.parts.source.held_out
    batch = {"image": source.images[:5], "index": np.arange(5, dtype=np.int32)}
    for rng, found in (
        (seed, first),
        (jax.random.fold_in(seed, studies.SECOND), second),
    ):
        drawn = run.parts.augment.views(rng, batch)
        assert drawn["views"].shape[1] == 1
        clean = drawn | {"image": drawn["views"][:, 0]}
        h = run.parts.method.encode(run.state.params, run.state.state, clean)["h"]
        np.testing.assert_allclose(found[:5], h, rtol=1e-4, atol=1e-6)

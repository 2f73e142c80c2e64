"""The main job on real digits is as good as it must be."""

import functools

import pytest

from rl_jax import data, evaluate, methods, networks, run, train
from rl_jax.augment import presets as augmentations
from rl_jax.run import presets


@functools.cache
def features():
    """H of the training and held-out digits after the preset's 400 steps of SimCLR."""
    preset, source = presets.digits(), data.digits()
    head = networks.projection_head(**preset.arguments["projector"])
    method = methods.simclr(networks.convnet(), head, **preset.arguments["simclr"])
    augment = augmentations.digits(**preset.arguments.get("augment", {}))
    optimizer = train.adamw(total_steps=400, **preset.arguments["optimizer"])
    state = train.fit(
        method, source, augment=augment, optimizer=optimizer, steps=400, mesh=one()
    )
    sides = (source, source.held_out)
    return [run.encode(method, augment, state, side)["h"] for side in sides]


def one():
    import jax

    return train.data_mesh(jax.devices()[:1])


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "least"), [(1, 0.80), (10, 0.96)])
def test_probe(labels, least):
    source = data.digits()
    held = source.held_out
    for x, floor in ((features(), least), (raw(), None)):
        found = evaluate.linear_probe(
            x[0], source.labels, x[1], held.labels, labels_per_class=labels
        ).mean
        print(f"{labels} labels per class: {found:.3f}")
        if floor is not None:
            assert found >= floor
        else:
            assert found < least - 0.05  # the pixels alone do not do it


def raw():
    source = data.digits()
    return [evaluate.raw_pixels(s.images) for s in (source, source.held_out)]

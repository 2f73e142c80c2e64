"""Encoding: all devices share a batch, and one pass over the data does for all."""

import collections

import jax
import numpy as np
import pytest

from rl_jax import augment, data, methods, networks, run, train
from rl_jax.run.encode import encoder, in_one_pass
from rl_jax.run.split import Part, at_most
from rl_jax.train import sharding
from rl_jax.types import TrainState


def images(size=37):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def trained():
    method = methods.simclr(
        networks.convnet(widths=(4, 8)), networks.projection_head(hidden=8, out=4)
    )
    batch = {"views": np.zeros((2, 2, 8, 8, 1), np.float32)}
    params, state = method.init(jax.random.key(0), batch)
    return method, TrainState(np.int32(0), jax.random.key(1), params, state, None)


@pytest.mark.parametrize("size", [1, 5, 37])
def test_devices_share_a_batch(trained, size, monkeypatch):
    """As `encode` of one device says it, with rows that fill up the last batch cut."""
    method, state = trained
    source, views = data.arrays(images(size)), augment.digits()
    alone = run.encode(method, views, state, source, batch_size=16, layers=True)
    everywhere = sharding.replicated(train.data_mesh())
    spread = state._replace(
        params=sharding.put(state.params, everywhere),
        state=sharding.put(state.state, everywhere),
    )
    seen = []
    look = encoder(method, views, spread, layers=True)

    def watched(host, placed):
        found = look(host, placed)
        seen.append({len(x.sharding.device_set) for x in found.values()})
        shards = found["h"].addressable_shards
        assert {shard.data.shape[0] for shard in shards} == {len(host["index"]) // 8}
        return found

    (found,) = in_one_pass(source, [watched], like=spread.params, batch_size=16)
    assert seen
    assert all(devices == {8} for devices in seen)
    assert list(found) == list(alone)
    for name, values in alone.items():
        assert found[name].shape == values.shape
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)


def test_one_pass_reads_each_image_once(trained):
    method, state = trained
    pixels, loads = images(), collections.Counter()

    def load(i):
        loads[i] += 1
        return pixels[i]

    source = data.Source("counting", 37, (8, 8, 1), load)
    other = state._replace(params=jax.tree.map(lambda x: x + 0.2, state.params))
    looks = [encoder(method, augment.digits(), s) for s in (state, other)]
    looks.append(lambda host, placed: {"sum": host["image"].sum((1, 2, 3))})
    a, b, sums = in_one_pass(source, looks, like=state.params, batch_size=37)
    assert loads == dict.fromkeys(range(37), 1)
    np.testing.assert_array_equal(sums["sum"], pixels.sum((1, 2, 3)))
    held = data.arrays(pixels)
    for found, each in ((a, state), (b, other)):
        expected = run.encode(method, augment.digits(), each, held, batch_size=37)
        np.testing.assert_array_equal(found["h"], expected["h"])
    assert np.abs(a["h"] - b["h"]).max() > 0.1


def test_at_most_so_many_of_each_label_its_part():
    labels = np.repeat([2, 0, 1, -1], [40, 20, 30, 10])
    rng = np.random.default_rng(0)
    labels = labels[rng.permutation(100)]
    part = Part(data.arrays(images(200)), np.arange(100, 200), labels)
    assert at_most(part, 100) is part
    found = at_most(part, 50)
    assert 47 <= len(found.index) <= 50
    assert (np.diff(found.index) > 0).all()
    np.testing.assert_array_equal(found.labels, labels[found.index - 100])
    # Labelled ones first; a share of what each class has beyond one.
    counts = np.bincount(found.labels + 1, minlength=4)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], [11, 17, 22], atol=1)


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        # Few labels beside many images without: all of them stay.
        ({-1: 1000, 0: 20, 1: 30}, 100, {-1: 50, 0: 20, 1: 30}),
        # Rare classes keep ten, or what they have; the others share the rest.
        ({0: 1000, 1: 12, 2: 4}, 200, {0: 186, 1: 10, 2: 4}),
        # Where ten of each would leave too little, one.
        ({c: 100 for c in range(20)}, 60, {c: 3 for c in range(20)}),
        ({c: 5 for c in range(50)}, 20, None),
        ({-1: 90}, 30, {-1: 30}),
    ],
)
def test_what_stays_of_each_class(counts, most, expected):
    labels = np.repeat(list(counts), list(counts.values()))
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    part = Part(data.arrays(images(len(labels))), np.arange(len(labels)), labels)
    found = at_most(part, most)
    assert len(found.index) <= most
    np.testing.assert_array_equal(found.labels, labels[found.index])
    if expected is not None:
        there = dict(zip(*np.unique(found.labels, return_counts=True), strict=True))
        assert there.keys() == expected.keys()
        for label, count in expected.items():
            assert abs(there[label] - count) <= 1

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
    assert len(found.index) == 50
    assert (np.diff(found.index) > 0).all()
    np.testing.assert_array_equal(found.labels, labels[found.index - 100])
    counts = np.unique(found.labels, return_counts=True)[1]
    np.testing.assert_allclose(counts, [5, 10, 15, 20], atol=1)

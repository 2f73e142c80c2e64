"""Sizes, steps and counts that are no whole numbers, and others out of range."""

import numpy as np
import pytest
from PIL import Image

from rl_jax import data
from rl_jax.data.arguments import whole

HALF = [
    (data.folder, "folder: size", {"size": 8.5}),
    (data.shards, "shards: size", {"size": 8.5}),
    (data.hugging_face, "hugging_face: size", {"size": 8.5}),
    (data.captioned, "captioned: size", {"size": 8.5}),
    (data.captioned, "tokens: length", {"length": 8.5}),
    (data.captioned, "captioned: limit_bytes", {"limit_bytes": 1e6}),
    (data.text, "tokens: length", {"length": 8.5}),
    (data.text, "text: limit_bytes", {"limit_bytes": 1e6}),
]
HALF_ALONE = [
    (data.topics, "tokens: vocab_size", {"vocab_size": 99.5}),
    (data.decode_speed, "decode_speed: size", {"size": 8.5}),
    (data.ica, "ica: sources", {"sources": 1.5}),
    (data.ica, "ica: seed", {"seed": 0.5}),
    (data.latent_classes, "latent_classes: size", {"size": 20.5}),
    (data.oscillators, "oscillators: channels", {"channels": 2.5}),
    (data.oscillators, "oscillators: steps", {"steps": "64"}),
]


@pytest.mark.parametrize(("factory", "name", "changed"), HALF)
def test_sizes_of_sources_of_files_are_whole(tmp_path, refused, factory, name, changed):
    (value,) = changed.values()
    with refused(f"^{name} must be an integer, got {value}$"):
        factory(tmp_path, **changed)


@pytest.mark.parametrize(("factory", "name", "changed"), HALF_ALONE)
def test_sizes_of_sources_are_whole(refused, factory, name, changed):
    (value,) = changed.values()
    with refused(f"^{name} must be an integer, got {value!r}$"):
        factory(**changed)


def test_steps_are_whole(refused):
    sizes = {"size": 10, "batch_size": 2}
    for at in ((0.5, 3), (0, 3.7)):
        with refused("batch_indices: (seed|step) must be an integer, got"):
            data.batch_indices(*at, **sizes)
    with refused("batch_indices: batch_size must be an integer, got 2.0"):
        data.batch_indices(0, 3, size=10, batch_size=2.0)
    with refused("epoch_order: size must be an integer, got 3.5"):
        data.epoch_order(0, 0, 3.5)
    with refused("steps_per_epoch: size must be an integer, got 10.5"):
        data.steps_per_epoch(10.5, 2)
    data.batch_indices(np.int64(0), np.uint8(3), **sizes)


@pytest.mark.parametrize("name", ["num_steps", "workers", "threads", "prefetch"])
def test_counts_of_a_stream_are_whole(refused, name):
    source = data.arrays(np.zeros((4, 2, 2), np.uint8))
    options = {"seed": 0, "batch_size": 2, "num_steps": 1} | {name: 1.5}
    with refused(f"stream: {name} must be an integer, got 1.5"):
        data.stream(source, **options)


def test_threads_of_resident(tmp_path, refused):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    source = data.folder(tmp_path, size=4)
    for threads in (0, -1):
        with refused(f"resident: threads must be >= 1, got {threads}"):
            data.resident(source, limit_bytes=10**6, threads=threads)
    with refused("resident: threads must be an integer, got 1.5"):
        data.resident(source, limit_bytes=10**6, threads=1.5)


def test_decode_speed(refused):
    with refused("decode_speed: size must be >= 1, got 0"):
        data.decode_speed(size=0)
    with refused("decode_speed: seconds must be > 0, got 0"):
        data.decode_speed(seconds=0)


def test_whole_numbers_of_any_type():
    whole("f", a=1, b=np.int32(1), c=np.array(1), d=2**70)

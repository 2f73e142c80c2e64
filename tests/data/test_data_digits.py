"""The digits and their fixed split."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rl_jax.data import digits


@pytest.fixture(scope="module")
def source():
    return digits()


def test_split_is_fixed(source):
    # Published numbers depend on this split: it must never change.
    def digest(part):
        content = part.images.tobytes() + part.labels.astype("<i4").tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    assert digest(source) == "13668206a2080f2e"
    assert digest(source.held_out) == "fb2fefc9dcff3722"


def test_sizes_and_classes(source):
    assert (source.size, source.held_out.size) == (1297, 500)
    for part in (source, source.held_out):
        assert part.image_shape == (8, 8, 1) == part.images.shape[1:]
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert part.class_names == tuple("0123456789")


def test_split_is_stratified(source):
    expected = np.bincount(load_digits().target) * 500 / 1797
    held = np.bincount(source.held_out.labels)
    assert np.abs(held - expected).max() < 1
    assert held.sum() == 500


def test_parts_are_disjoint_and_make_up_the_whole(source):
    data = load_digits()
    whole = [
        (round(label), image.tobytes())
        for label, image in zip(
            data.target, np.rint(data.images * 255 / 16).astype(np.uint8), strict=True
        )
    ]
    parts = [
        (int(label), image.tobytes())
        for part in (source, source.held_out)
        for label, image in zip(part.labels, part.images, strict=True)
    ]
    assert sorted(whole) == sorted(parts)


def test_scaling(source):
    values = np.unique(np.concatenate([source.images, source.held_out.images]))
    np.testing.assert_array_equal(values, np.rint(np.arange(17) * 255 / 16))


def test_load_is_the_image(source):
    np.testing.assert_array_equal(source.load(3), source.images[3])
    assert source.problems() == {"seen": 0, "bad": 0, "names": ()}

"""A changed data set is noticed, a moved one is the same; no image is decoded."""

import importlib
import shutil

import numpy as np
import pytest
from PIL import Image

from rl_jax import data


def images(n=12):
    return np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2, 1)


def source(n=12, labels=None, **held):
    labels = np.arange(n) % 3 if labels is None else labels
    return data.arrays(images(n), labels, **held)


def differ(one, two, **options):
    return data.difference(data.fingerprint(one), data.fingerprint(two), **options)


def test_equal_arrays_are_the_same_data():
    assert differ(source(), source()) is None
    assert differ(data.digits(), data.digits(), held_out=True) is None


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (source(13), "12 images then, 13 now"),
        (source(labels=np.zeros(12, int)), "other files, content or labels"),
        (data.arrays(images()), "other files, content or labels"),
        (data.arrays(images()[::-1], np.arange(12) % 3), "other files, content"),
        (data.arrays(images().reshape(12, 4, 1, 1)), "of 2x2x1 then, of 4x1x1 now"),
    ],
)
def test_what_changed_is_said(now, words):
    assert words in differ(source(), now)


def test_the_held_out_part_counts_only_where_it_is_asked_for():
    one, two = source(held_out=source(5)), source(held_out=source(6))
    assert differ(one, two) is None
    assert differ(one, two, held_out=True) == "held-out part: 5 images then, 6 now"
    words = differ(source(), one, held_out=True)
    assert words == "no held-out part then, not so now"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    # The name `rl_jax.data.folder` is the factory; decoding would fail.
    module = importlib.import_module("rl_jax.data.folder")
    monkeypatch.setattr(module, "read_image", None)
    for k in range(6):
        path = tmp_path / "photos" / f"class{k % 2}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((5, 4 + k, 3), 40 * k, np.uint8)).save(path)
    return tmp_path / "photos"


def test_a_moved_folder_is_the_same_data(photos, tmp_path):
    before = data.folder(photos)
    moved = shutil.copytree(photos, tmp_path / "elsewhere" / "pictures")
    assert differ(before, data.folder(moved)) is None


def test_a_changed_folder(photos):
    before = data.fingerprint(data.folder(photos))

    def now():
        return data.difference(before, data.fingerprint(data.folder(photos)))

    (photos / "class0" / "0.png").rename(photos / "class1" / "0.png")
    assert "as many images as before, but other files" in now()
    (photos / "class1" / "0.png").rename(photos / "class0" / "0.png")
    assert now() is None
    with (photos / "class0" / "0.png").open("ab") as file:
        file.write(b"more")
    assert "as many images as before, but other files" in now()
    (photos / "class0" / "0.png").unlink()
    assert now() == "6 images then, 5 now"

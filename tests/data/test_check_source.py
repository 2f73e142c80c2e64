"""Sources that were filled in by hand, and what is wrong with them."""

import numpy as np
import pytest

from rl_jax import augment, data, methods, networks, train
from rl_jax.errors import UsageError

IMAGES = np.zeros((4, 8, 8, 1), np.uint8)
LABELS = np.array([0, 1, 2, -1])


def by_hand(**parts):
    given = {
        "name": "mine", "size": 4, "image_shape": (8, 8, 1), "load": lambda i: IMAGES[i]
    } | parts  # fmt: skip
    return data.Source(**given)


RIGHT = {
    "files": {},
    "labels of 64 bits": {"labels": LABELS},
    "held in memory": {"images": IMAGES},
    "fields": {"fields": {"u": LABELS, "caption": np.zeros((4, 6), np.int32)}},
    "fields alone": {"image_shape": (), "fields": {"image": np.zeros((4, 6))}},
    "held out": {"held_out": by_hand(size=3)},
    "names": {"labels": LABELS, "class_names": ("a", "b", "c", "none")},
}


@pytest.mark.parametrize("parts", RIGHT.values(), ids=RIGHT)
def test_sound(parts):
    data.check_source(by_hand(**parts))


WRONG = [
    ({"name": 3}, "a source's name must be a text, got 3"),
    ({"size": 0}, "mine: size must be an integer >= 1, got 0"),
    ({"size": 4.0}, "size must be an integer >= 1, got 4.0"),
    ({"image_shape": [8, 8, 1]}, r"image_shape must be \(H, W, C\), or \(\) where"),
    ({"image_shape": (8, 8)}, r"got \(8, 8\)"),
    ({"load": IMAGES}, r"load must be a function, got uint8 of shape \(4, 8, 8, 1\)"),
    ({"digest": "abc"}, "digest must be a function, got 'abc'"),
    ({"images": IMAGES / 255}, "images must be a NumPy array of uint8, or None"),
    ({"images": IMAGES[:3]}, r"images must have the shape \(4, 8, 8, 1\), as size"),
    ({"labels": [0, 1, 2, 1]}, "labels must be a NumPy array of 4 .*got a list of 4"),
    ({"labels": LABELS / 2}, "labels must be integers, got float64"),
    ({"labels": LABELS[:3]}, r"labels must have the shape \(4,\)"),
    ({"labels": LABELS - 1}, "labels must be in"),
    ({"labels": LABELS, "class_names": ["a"]}, "class_names must be a tuple of texts"),
    ({"labels": LABELS, "class_names": ("a",)}, "1 class names for labels up to 2"),
    ({"fields": [LABELS]}, "fields must be arrays by name, got a list of 1"),
    ({"fields": {"u": [0, 1, 2, 3]}}, r"field u must be a NumPy array .*\[4, ...\]"),
    ({"fields": {"u": LABELS[:3]}}, r"field u must be .*got int64 of shape \(3,\)"),
    ({"fields": {"u": np.array(["a"] * 4)}}, "field u must be"),
    ({"fields": {"label": LABELS}}, "no field may be called label"),
    ({"image_shape": ()}, "there are neither images nor fields"),
    ({"held_out": IMAGES}, "held_out must be a data.Source or None"),
    ({"held_out": by_hand(image_shape=(9, 8, 1))}, "the examples of held_out must be"),
    ({"held_out": by_hand(name="test", size=0)}, "test: size must be"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "said"), WRONG)
def test_wrong(parts, said):
    with pytest.raises(UsageError, match=said):
        data.check_source(by_hand(**parts))


def test_fit_refuses_what_is_no_source():
    method = methods.simclr(
        networks.mlp(features=(), out=4), networks.mlp(features=(), out=4)
    )
    pieces = {"augment": augment.digits(), "optimizer": train.adamw(total_steps=1)}
    source = by_hand(labels=[0, 1, 2, 1])
    with pytest.raises(UsageError, match="mine: labels must be a NumPy array"):
        train.fit(method, source, steps=1, batch_size=2, **pieces)

"""What stands in for data that are gone is of the same kind."""

import json

import numpy as np
import pytest

from rl_jax import data
from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.run.outline import outline, stand_in

SOURCES = {
    "digits": data.digits,
    "captions": lambda: data.digits(captions=True),
    "ica": data.ica,
    "oscillators": data.oscillators,
    "one class": lambda: data.arrays(np.zeros((3, 4, 4), np.uint8), np.zeros(3, int)),
    "no labels": lambda: data.arrays(np.zeros((3, 4, 4), np.uint8)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_shapes_classes_and_vocabulary(name):
    source = SOURCES[name]()
    found = stand_in(json.loads(json.dumps(outline(source))))
    assert data.shapes(found) == data.shapes(source)
    assert data.contents(found) == data.contents(source)
    assert found.vocabulary == source.vocabulary
    assert found.class_names == source.class_names
    assert recipes.has_labels(found) == recipes.has_labels(source)
    if recipes.has_labels(source):
        assert recipes.num_classes(found) == recipes.num_classes(source)
    assert (found.labels is None) == (source.labels is None)
    few = data.rows(found, np.arange(5))
    if "tokens" in found.fields:
        assert few.fields["tokens"].min() > 0
        assert few.fields["tokens"].max() < len(source.vocabulary)


@pytest.mark.parametrize(
    "edited",
    [
        {"image": None},
        {"image": [100_000, 100_000, 3]},
        {"image": [-1, 8, 1]},
        {"fields": []},
        {"fields": {"u": ["float32", 10**12]}},
    ],
)
def test_an_outline_that_was_edited(edited):
    told = outline(data.digits())
    with pytest.raises(UsageError, match="its outline: .*; restore it"):
        stand_in(told | edited)

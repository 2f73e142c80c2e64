"""What a run keeps of its data in `run.json`, to be opened where they are gone.

Encoding other examples takes the shapes of those of the run, their classes (the online
probe has an output for each) and their vocabulary, but none of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_jax import data
from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.types import MASK

EXAMPLES = 32
LONGEST = 2**16
"""Tokens of a vocabulary up to which it is kept in `run.json`."""
LARGEST = 2**30
"""Bytes of made-up examples up to which they are made."""


def outline(source: data.Source) -> dict[str, Any]:
    """What `stand_in` needs of the data of a run, as JSON can hold it.

    Empty for a vocabulary so long that `run.json` would be mostly that.
    """
    if len(source.vocabulary) > LONGEST:
        return {}
    labelled = source.labels is not None
    return {
        "name": source.name,
        "image": list(source.image_shape),
        "fields": {
            name: [str(rows.dtype), *rows.shape[1:]]
            for name, rows in source.fields.items()
        },
        "labelled": labelled,
        "classes": recipes.num_classes(source) if recipes.has_labels(source) else 0,
        "class_names": list(source.class_names),
        "vocabulary": list(source.vocabulary),
    }


def stand_in(told: Mapping[str, Any]) -> data.Source:
    """Made-up examples of the shapes, classes and vocabulary of an outline.

    Raises:
      UsageError: where the outline says nothing that can be read.
    """
    try:
        return _made_up(told)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f"run.json cannot be read as a run: its outline: {error!r}; restore it"
        ) from None


def _check_size(name: str, shape: Sequence[int], *, width: int) -> None:
    if not 0 <= width * EXAMPLES * math.prod(shape) <= LARGEST:
        raise ValueError(f"{name} is of shape {list(shape)}")


def _made_up(told: Mapping[str, Any]) -> data.Source:
    rng = np.random.default_rng(0)
    shape = tuple(map(int, told["image"]))
    images: Any = None
    if shape:
        _check_size("image", shape, width=1)
        images = rng.integers(0, 256, (EXAMPLES, *shape), np.uint8)
    vocabulary = tuple(map(str, told["vocabulary"]))
    fields = {}
    for name, (dtype, *size) in told["fields"].items():
        _check_size(name, size, width=8)
        rows = rng.normal(size=(EXAMPLES, *size))
        if name == "tokens":
            rows = rng.integers(MASK + 1, len(vocabulary), rows.shape)
        # Whatever else is a number of something: there is always a first.
        rows = rows * (name == "tokens" or np.issubdtype(dtype, np.floating))
        fields[name] = rows.astype(dtype)
    labels = np.zeros(EXAMPLES, np.int32) if told["labelled"] else None
    if labels is not None and told["classes"]:
        labels[-1] = told["classes"] - 1
    return data.Source(
        name=str(told["name"]),
        size=EXAMPLES,
        image_shape=shape,
        load=lambda index: images[index],
        labels=labels,
        class_names=tuple(map(str, told["class_names"])),
        images=images,
        fields=fields,
        vocabulary=vocabulary,
    )

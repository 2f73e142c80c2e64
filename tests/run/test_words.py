"""A hidden word guessed by its frequency, beside BERT's own numbers."""

import collections
import math

import numpy as np
import pytest

from rl_jax.cli.recipe import read
from rl_jax.run import pretrain, words
from rl_jax.run import recipe as recipes
from rl_jax.run.held_out import held_out_metrics
from rl_jax.run.split import rows_of, split
from rl_jax.run.trained import Run

WORDS = [f"{a}{b}" for a in ("ba", "co", "di", "fu") for b in ("n", "rt", "st", "lm")]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Some words more often than others, in texts of other lengths."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    share = np.arange(len(WORDS), 0, -1.0) ** 2
    for i in range(8):
        words = rng.choice(WORDS, 40 + 13 * i, p=share / share.sum())
        (folder / f"{i}.txt").write_text(" ".join(words))
    return str(folder)


def run_of(method, *argv):
    small = ["--encoder.width", "8", "--encoder.depth", "1", "--batch-size", "4"]
    asked = read("pretrain", [method, *argv, *small])
    parts = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, parts)()
    return Run(asked.recipe, {}, parts, 0, state, state, None)


def data_flags(texts):
    return "--data", texts, "--data.length", "10", "--data.vocab-size", "300"


def reference(run, fit, scored, rows):
    """Word by word, in loops."""
    arguments = run.recipe.method.arguments
    first, size = arguments["first_word"], arguments["vocab_size"]
    times = collections.Counter(
        int(t) for t in rows_of(fit).fields["tokens"].ravel() if t >= first
    )
    total = sum(times.values()) + size - first
    most = max(range(first, size), key=lambda w: times[w])
    loss = right = chosen = 0.0
    for text in rows_of(scored).fields["tokens"][:rows]:
        own = [int(t) for t in text if t >= first]
        n = min(max(1, round(arguments["mask_probability"] * len(own))), len(own))
        for w in own:
            loss += n / len(own) * -math.log((1 + times[w]) / total)
            right += n / len(own) * (w == most)
        chosen += n
    return loss / chosen, right / chosen


@pytest.mark.parametrize("share", ["0.15", "0.4"])
def test_equals_the_reference(texts, share):
    run = run_of("bert", *data_flags(texts), "--mask-probability", share)
    fit, scored, _ = split(run.parts.source)
    found = words.by_frequency(run, fit, scored)
    rows = rows_of(scored).size // 4 * 4
    assert found["texts"] == rows < rows_of(scored).size
    loss, right = reference(run, fit, scored, rows)
    assert found["loss"] == pytest.approx(loss)
    assert found["accuracy"] == pytest.approx(right)
    assert found["loss"] < math.log(run.recipe.method.arguments["vocab_size"])
    line = words.said(found, held_out_metrics(run, scored))
    assert f"by its frequency alone {loss:.3f}; accuracy" in line


def test_there_is_none_of_other_methods_or_of_less_than_a_batch(texts):
    run = run_of("simcse", *data_flags(texts))
    fit, scored, _ = split(run.parts.source)
    assert words.by_frequency(run, fit, scored) is None
    run = run_of("bert", *data_flags(texts))
    few = scored._replace(index=scored.index[:3], labels=scored.labels[:3])
    assert words.by_frequency(run, fit, few) is None

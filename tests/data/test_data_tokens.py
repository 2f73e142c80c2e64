"""Tokens: the same ones every time, for any text, and none that a text can fake."""

import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_jax import types
from rl_jax.data import (
    class_prompts,
    padded,
    pieces,
    train_pieces,
    train_words,
    windows,
    words,
)
from rl_jax.data.tokens import MASK, PAD, UNK

TEXTS = [
    "The cat sat on the mat. The cat ate the rat; the rat had sat on the cat's hat!",
    "Ein Schloß, zwei Schlösser — 12 cats in 1999. 猫が好き 🐈 ok",
] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_pieces(TEXTS, vocab_size=300)


def test_special_ids(tokenizer):
    # Networks and methods, which see no data, have names of their own for these.
    assert (PAD, UNK, MASK) == (types.PADDING, types.UNKNOWN, types.MASK) == (0, 1, 2)
    for vocabulary in (tokenizer.vocabulary, train_words(TEXTS).vocabulary):
        assert vocabulary[:3] == ("[PAD]", "[UNK]", "[MASK]")
        assert len(set(vocabulary)) == len(vocabulary)


def test_frequent_words_become_one_piece(tokenizer):
    assert len(tokenizer.vocabulary) == 300
    (ids,) = tokenizer.encode(["the  cat\n THE"])
    assert [tokenizer.vocabulary[i] for i in ids] == ["Ġthe", "Ġcat", "Ġthe"]
    assert ids.dtype == np.int32


def test_decoding_gives_the_text_back(tokenizer):
    for text in TEXTS:
        (ids,) = tokenizer.encode([text])
        assert tokenizer.decode(ids) == " ".join(text.lower().split())
    (row,) = padded(tokenizer.encode(["a cat"]), 8)
    assert tokenizer.decode(row) == "a cat"
    assert tokenizer.decode([MASK, *row, UNK]) == "[MASK] a cat [UNK]"


def test_case_can_be_kept():
    kept = train_pieces(TEXTS, vocab_size=280, lowercase=False)
    assert kept.decode(kept.encode(["The CAT"])[0]) == "The CAT"
    word = train_words(["Cat cat Cat"], lowercase=False)
    assert word.vocabulary[3:] == ("Cat", "cat")


def test_a_vocabulary_is_all_that_is_needed(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    again = pieces(tokenizer.vocabulary)
    for one, two in zip(tokenizer.encode(TEXTS), again.encode(TEXTS), strict=True):
        np.testing.assert_array_equal(one, two)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(), max_size=60))
def test_any_text_has_tokens_and_comes_back(tokenizer, text):
    (ids,) = tokenizer.encode([text])
    assert not np.isin(ids, [PAD, UNK, MASK]).any()
    assert (ids < 300).all()
    clean = unicodedata.normalize("NFC", text).lower().encode("utf-8", "replace")
    clean = "".join(clean.decode().split())
    # White space only separates.
    assert "".join(tokenizer.decode(ids).split()) == clean


@pytest.mark.fault
@pytest.mark.parametrize(
    "text",
    [
        "[MASK] [PAD] [UNK]",
        "\ud800 lone \udfff",
        "a" * 200_000,
        "ﷺ" * 500,
        "e" + "\u0301" * 5000,
        "\u202e\u200d\ufeff\x00\x1b[31m",
        "<script>alert(1)</script> {0.__class__}",
    ],
)
def test_hostile_texts(tokenizer, text):
    for learned in (tokenizer, train_pieces([text], vocab_size=260)):
        (ids,) = learned.encode([text])
        assert len(ids)
        assert ids.min() > MASK
        assert ids.max() < len(learned.vocabulary)
    (ids,) = train_words(TEXTS).encode([text])
    assert not np.isin(ids, [PAD, MASK]).any()


@pytest.mark.parametrize("text", ["", " \n\t \u3000"])
def test_no_text_has_no_tokens(tokenizer, text):
    assert tokenizer.encode([text])[0].shape == (0,)
    assert len(train_pieces([text], vocab_size=300).vocabulary) == 259
    assert train_words([text]).encode([text])[0].shape == (0,)


def test_rulers_and_texts_without_spaces_make_no_endless_pieces():
    learned = train_pieces(["-" * 5000, "猫が好き" * 500] * 2, vocab_size=400)
    decoded = [learned.decode([i]) for i in range(3, len(learned.vocabulary))]
    assert max(map(len, decoded)) == 24


def test_long_texts_are_read_in_chunks(tokenizer):
    text = "the cat sat on the mat " * 10_000
    (ids,) = tokenizer.encode([text])
    (once,) = tokenizer.encode(["the cat sat on the mat"])
    np.testing.assert_array_equal(ids, np.tile(once, 10_000))


def test_training_does_not_depend_on_the_process():
    program = (
        "from rl_jax.data import train_pieces, topics\n"
        "from pydoc_data.topics import topics as t\n"
        "import hashlib\n"
        "v = train_pieces(sorted(t.values()), vocab_size=700).vocabulary\n"
        "print(hashlib.sha256(repr(v).encode()).hexdigest(), topics().digest())"
    )
    results = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": n, "PYTHONPATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed, n, path in [
            ("1", "1", ":".join(sys.path)),
            ("2", "2", ":".join(sys.path)),
        ]
    }
    assert len(results) == 1


def test_words_by_frequency_then_alphabet():
    learned = train_words(["b a b c_1 ... C"], vocab_size=6)
    assert learned.vocabulary[3:] == (".", "b", "c")
    np.testing.assert_array_equal(learned.encode(["B, a c. d"])[0], [4, 1, 1, 5, 3, 1])
    assert learned.decode([4, 3, 0]) == "b ."


def test_padded():
    rows = padded([np.array([5, 6, 7]), np.array([8]), np.array([], np.int32)], 2)
    np.testing.assert_array_equal(rows, [[5, 6], [8, 0], [0, 0]])
    assert rows.dtype == np.int32


def test_windows_keep_every_token_and_never_cross_texts():
    texts = [np.arange(1, 8), np.array([], int), np.arange(10, 13), np.arange(20, 24)]
    rows, of = windows([t.astype(np.int32) for t in texts], 3)
    expected = [[1, 2, 3], [4, 5, 6], [7, 0, 0], [10, 11, 12], [20, 21, 22], [23, 0, 0]]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(of, [0, 0, 0, 2, 3, 3])


def test_class_prompts(refused):
    tokenizer = words(("[PAD]", "[UNK]", "[MASK]", "a", "cat", "dog", "no"))
    rows = class_prompts(tokenizer, ["cat", "dog"], ["a {}", "no {} no"], length=3)
    expected = [[[3, 4, 0], [6, 4, 6]], [[3, 5, 0], [6, 5, 6]]]
    np.testing.assert_array_equal(rows, expected)
    rows = class_prompts(tokenizer, ["{0.__class__}"], ["{} {}"], length=3)
    assert (rows == UNK).all()
    with refused("class_prompts", "'cat'"):
        class_prompts(tokenizer, ["a"], ["{}", "cat"], length=3)


def test_bad_arguments(tokenizer, refused):
    for size in (258, 2**20 + 1):
        with refused(r"vocab_size must be in \[259, 1048576\]", f"got {size}"):
            train_pieces(TEXTS, vocab_size=size)
    with refused(r"vocab_size must be in \[4, ", "got 3"):
        train_words(TEXTS, vocab_size=3)
    for length in (0, 2**13 + 1):
        with refused(r"length must be in \[1, 8192\]", f"got {length}"):
            padded([], length)
    with refused("must start with", "got"):
        words(("a", "b"))
    with refused("lacks 256 of the 256 bytes"):
        pieces(("[PAD]", "[UNK]", "[MASK]", "a b"))
    with refused("'猫'", "alphabet of bytes"):
        pieces((*tokenizer.vocabulary, "猫"))


def test_missing_package(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with refused("tokenizers", r"rl-jax\[text\]"):
        train_pieces(TEXTS)


def test_nothing_is_imported_early():
    program = (
        "import sys, rl_jax, rl_jax.data\n"
        "rl_jax.data.digits(captions=True)\n"
        "print({'tokenizers', 'pydoc_data.topics'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ).stdout
    assert found.strip() == "set()"

"""Text files as windows of tokens."""

import logging
import os
import sys

import numpy as np
import pytest

from rl_jax.data import pieces, stream, text, topics

WORDS = [
    *("alpha", "beta", "gamma", "delta", "epsilon"),
    *("zeta", "eta", "theta", "iota", "kappa"),
]


def lines(start, count):
    """Words numbered one after another, so that every window is another one."""
    return " ".join(f"{WORDS[i % 10]} {i}" for i in range(start, start + count)) + "\n"


def said(source, *, lowercase=True):
    tokenizer = pieces(source.vocabulary, lowercase=lowercase)
    return [tokenizer.decode(row) for row in source.fields["tokens"]]


def test_one_file(tmp_path):
    content = lines(0, 2000)
    (tmp_path / "book one ü.txt").write_text(content, encoding="utf-8")
    source = text(tmp_path / "book one ü.txt", vocab_size=400, length=32)
    assert source.name == "book one ü.txt"
    assert source.labels is None
    assert source.image_shape == ()
    assert source.fields["tokens"].shape == (source.size, 32)
    assert source.fields["tokens"].dtype == np.int32
    assert source.fields["tokens"].max() < len(source.vocabulary) <= 400
    assert source.vocabulary == source.held_out.vocabulary
    # Nothing is lost, nothing is in both parts, and the end is what is held out.
    whole = "".join(said(source) + said(source.held_out)).replace(" ", "")
    assert whole == "".join(content.split())
    share = source.held_out.size / (source.size + source.held_out.size)
    assert 0.08 < share < 0.12
    assert not set(said(source)) & set(said(source.held_out))


def test_same_every_time(tmp_path):
    (tmp_path / "a.txt").write_text(lines(0, 500))
    one, two = text(tmp_path / "a.txt"), text(tmp_path / "a.txt")
    np.testing.assert_array_equal(one.fields["tokens"], two.fields["tokens"])
    assert one.digest() == two.digest()
    (tmp_path / "a.txt").write_text(lines(1, 500))
    assert text(tmp_path / "a.txt").digest() != one.digest()


def test_vocabulary_is_learned_from_the_training_part_only(tmp_path):
    (tmp_path / "a.txt").write_text("common words here " * 300 + "xylophone " * 50)
    source = text(tmp_path / "a.txt", held_out=0.1)
    assert any("xylophone" in each for each in said(source.held_out))
    assert not any("xylo" in token for token in source.vocabulary)


def test_files_are_labels(tmp_path):
    (tmp_path / "b.md").write_text(lines(0, 300))
    (tmp_path / "a.TXT").write_text(lines(300, 100))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("hidden")
    source = text(tmp_path, length=16)
    assert source.class_names == ("a", "b")
    for part in (source, source.held_out):
        assert set(part.labels) == {0, 1}
        for row, label in zip(said(part), part.labels, strict=True):
            numbers = [int(w) for w in row.split() if w.isdigit() and len(w) == 3]
            # Words cut by a window's edge may be shorter, none is of the other file.
            assert all((n >= 300) == (label == 0) for n in numbers[1:-1])


def test_files_of_one_stem_keep_their_suffix(tmp_path):
    for name in ("a.txt", "a.md", "b.txt"):
        (tmp_path / name).write_text(lines(0, 9))
    assert text(tmp_path).class_names == ("a.md", "a.txt", "b.txt")


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_end_of_a_text_without_spaces_is_held_out(tmp_path, end, caplog):
    (tmp_path / "a.txt").write_text("字" * 700 + end)
    source = text(tmp_path / "a.txt", held_out=0.5)
    assert "".join(said(source)) == "字" * 350 + "字" * bool(end)
    assert "".join(said(source.held_out)) == "字" * (350 - bool(end))
    assert not caplog.messages


def test_a_word_is_not_cut(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("one encyclopaedia\n")
    source = text(tmp_path / "a.txt", held_out=0.5)
    assert said(source) == ["one encyclopaedia"]
    assert source.held_out is None
    (message,) = caplog.messages
    assert message.startswith(
        "text: nothing of 'a.txt' is held out for testing: held_out=0.5"
    )


def test_directories_are_labels_and_files_are_held_out(tmp_path):
    for label in ("neg", "pos"):
        (tmp_path / label).mkdir()
        for i in range(10):
            (tmp_path / label / f"{i}.txt").write_text(f"{label} number {i} " * 5)
    source = text(tmp_path, held_out=0.2, length=64)
    assert source.class_names == ("neg", "pos")
    assert (source.size, source.held_out.size) == (16, 4)
    np.testing.assert_array_equal(np.bincount(source.held_out.labels), [2, 2])
    for part in (source, source.held_out):
        for row, label in zip(said(part), part.labels, strict=True):
            assert row.startswith(("neg", "pos")[label])
    assert not set(said(source)) & set(said(source.held_out))


def test_given_parts(tmp_path):
    for part, label in (("train", "x"), ("train", "y"), ("val", "y")):
        (tmp_path / part / label).mkdir(parents=True)
        (tmp_path / part / label / "1.txt").write_text(f"{part} {label} " * 9)
    source = text(tmp_path)
    assert said(source) == [("train x " * 9).strip(), ("train y " * 9).strip()]
    assert said(source.held_out) == [("val y " * 9).strip()]
    np.testing.assert_array_equal(source.labels, [0, 1])
    np.testing.assert_array_equal(source.held_out.labels, [1])


def test_nothing_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("one two three")
    assert text(tmp_path, held_out=0.0).held_out is None
    assert said(text(tmp_path / "a.txt", held_out=0.5))[0].startswith("one")


def test_case(tmp_path):
    (tmp_path / "a.txt").write_text("Hello World " * 20)
    source = text(tmp_path, lowercase=False, held_out=0.0)
    assert said(source, lowercase=False)[0].startswith("Hello World")


def test_batches(tmp_path):
    (tmp_path / "a.txt").write_text(lines(0, 500))
    source = text(tmp_path, length=8)
    with stream(source, seed=0, batch_size=4, num_steps=2) as batches:
        for batch in batches:
            assert set(batch) == {"index", "label", "tokens"}
            rows = source.fields["tokens"][batch["index"]]
            np.testing.assert_array_equal(batch["tokens"], rows)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xef\xbb\xbfplain text", "plain text"),
        ("wide ü text".encode("utf-16"), "wide ü text"),
        (b"caf\xe9 au lait", "caf\ufffd au lait"),
        (b"cut \xe7\x8c", "cut \ufffd"),
        (b"\x1b[31m <b>\r\n\x07", "\x1b[31m <b> \x07"),
    ],
)
def test_encodings(tmp_path, caplog, data, expected):
    (tmp_path / "a.txt").write_bytes(data)
    with caplog.at_level(logging.WARNING, "rl_jax.data"):
        source = text(tmp_path, held_out=0.0, length=64)
    assert said(source) == [expected]
    assert ("not UTF-8" in caplog.text) == ("\ufffd" in expected)


@pytest.mark.fault
def test_what_is_no_text(tmp_path, refused):
    with refused("no such file or directory", "missing"):
        text(tmp_path / "missing")
    with refused("no text files", "1 directories", ".txt, .md"):
        text(tmp_path)
    (tmp_path / "a.txt").touch()
    with refused("nothing but white space"):
        text(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"PK\x03\x04\0\0\0")
    with refused("a.txt", "not text", "zero bytes"):
        text(tmp_path)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").mkdir()
    with refused("no text files"):
        text(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with refused("neither a file nor a directory"):
        text(tmp_path / "pipe")
    os.symlink("nowhere", tmp_path / "b\n.txt")
    with refused(r"cannot read '.*b\\n.txt'", "No such file"):
        text(tmp_path)


@pytest.mark.fault
def test_links(tmp_path):
    (tmp_path / "a.txt").write_text("one two three " * 20)
    os.symlink(tmp_path, tmp_path / "loop")
    assert text(tmp_path, held_out=0.0).labels is None


@pytest.mark.fault
def test_too_much_is_refused_before_reading(tmp_path, refused, monkeypatch):
    with open(tmp_path / "a.txt", "wb") as file:
        file.truncate(1 << 40)
    with refused("1 files of 1,099,511,627,776 bytes", "limit_bytes is 268,435,456"):
        text(tmp_path)
    (tmp_path / "a.txt").write_text("x" * 100)
    monkeypatch.setattr(os, "stat", _empty(os.stat))
    with refused("grows"):
        text(tmp_path / "a.txt", limit_bytes=99)


def _empty(stat):
    def smaller(path, *arguments, **options):
        found = stat(path, *arguments, **options)
        if str(path).endswith("a.txt"):
            return os.stat_result([*found[:6], 0, *found[7:]])
        return found

    return smaller


@pytest.mark.fault
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path, refused):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.txt").chmod(0)
    with refused("cannot read", "a.txt", "Permission denied"):
        text(tmp_path)


def test_bad_arguments(tmp_path, refused):
    (tmp_path / "a.txt").write_text("one two three")
    for share in (-0.1, 1.0, float("nan")):
        with refused(r"held_out must be in \[0, 1\)", f"got {share}"):
            text(tmp_path, held_out=share)
    with refused("length must be"):
        text(tmp_path, length=0)
    with refused("vocab_size must be", "got 100"):
        text(tmp_path, vocab_size=100)


def test_missing_package(tmp_path, refused, monkeypatch):
    (tmp_path / "a.txt").write_text("one two three")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with refused("tokenizers", r"rl-jax\[text\]"):
        text(tmp_path)


def test_topics(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    source = topics()
    assert source.fields["tokens"].shape == (source.size, 64)
    assert len(source.vocabulary) == 2000
    assert source.labels is None
    both = [source.fields["tokens"], source.held_out.fields["tokens"]]
    count, held = ((rows > 0).sum() for rows in both)
    # 96,909 tokens in Python 3.11.
    assert 60_000 < count + held < 150_000
    assert 0.09 < held / (count + held) < 0.11
    unknown = sum((rows == 1).sum() for rows in both) / (count + held)
    assert unknown < 0.03
    # No sixteen tokens that follow each other are in both parts, but for numbers
    # and unknown words that look alike.
    runs = [{tuple(r) for row in rows for r in _runs(row, 16)} for rows in both]
    assert len(runs[0] & runs[1]) < 0.01 * len(runs[1])
    # English has structure: "the" is among the most frequent tokens.
    top = np.argsort(np.bincount(both[0].ravel())[1:])[::-1][:10] + 1
    assert "the" in [source.vocabulary[i] for i in top]
    assert topics().digest() == source.digest()
    assert topics(length=32, vocab_size=100).fields["tokens"].shape[1] == 32


def _runs(row, length):
    row = row[row > 0]
    return [row[i : i + length] for i in range(len(row) - length + 1)]

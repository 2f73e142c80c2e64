"""Folders of images with captions, with what the fault list damages."""

import json
import logging
import os
import pickle
import unicodedata

import numpy as np
import pytest
from PIL import Image

from rl_jax.data import (
    captioned,
    examples,
    fingerprint,
    labels_at,
    pieces,
    resident,
    rows,
)
from rl_jax.errors import UsageError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def save(path, colour=(0, 0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)


def said(source):
    tokenizer = pieces(source.vocabulary)
    rows = source.fields["tokens"]
    texts = [tokenizer.decode(row) for row in rows.reshape(-1, rows.shape[-1])]
    return np.array(texts).reshape(rows.shape[:-1]).tolist()


def colours(root, count=10):
    """Images each of one colour, which the caption names."""
    lines = ["filepath,title"]
    for colour, value in COLOURS.items():
        for i in range(count):
            save(root / colour / f"{i}.png", value)
            lines.append(f'{colour}/{i}.png,"A {colour} square, number {i}"')
    (root / "captions.csv").write_text("\n".join(lines))


def test_captions_are_of_their_images(tmp_path):
    colours(tmp_path)
    source = captioned(tmp_path, size=8, vocab_size=400, length=16)
    assert source.name == tmp_path.name
    assert (source.size, source.held_out.size) == (27, 3)
    assert source.class_names == ("blue", "green", "red")
    np.testing.assert_array_equal(np.bincount(source.held_out.labels), [1, 1, 1])
    for part in (source, source.held_out):
        assert part.image_shape == (8, 8, 3)
        assert part.images is None
        assert part.fields["tokens"].shape == (part.size, 16)
        assert part.fields["tokens"].dtype == np.int32
        assert not part.fields["tokens"].flags.writeable
        assert part.vocabulary == source.vocabulary
        for i, caption in enumerate(said(part)):
            name = part.class_names[part.labels[i]]
            assert caption.startswith(f"a {name} square, number ")
            assert tuple(part.load(i)[4, 4]) == COLOURS[name]
    assert not set(said(source)) & set(said(source.held_out))
    assert source.problems() == {"seen": 27, "bad": 0, "names": ()}


def test_same_every_time_and_in_other_processes(tmp_path):
    colours(tmp_path)
    one, two = (captioned(tmp_path, size=8) for _ in range(2))
    np.testing.assert_array_equal(one.fields["tokens"], two.fields["tokens"])
    assert fingerprint(one) == fingerprint(two)
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(again.load(3), one.load(3))
    content = (tmp_path / "captions.csv").read_text()
    (tmp_path / "captions.csv").write_text(content.replace("number 3", "number 4"))
    assert captioned(tmp_path, size=8).digest() != one.digest()


def test_several_captions(tmp_path):
    for name in ("a.png", "b b ü.png", "c.png"):
        save(tmp_path / "images" / name)
    entries = [
        {"image": "images/b b ü.png", "caption": "b one", "id": 7},
        {"file": "./images//a.png", "text": "a only"},
        {"image": "images/b b ü.png", "caption": "b two"},
        {"image": "images/b b ü.png", "caption": "b three"},
        {"image": "images/c.png", "caption": "c one"},
        {"image": "images/c.png", "caption": "c two"},
    ]
    (tmp_path / "captions.jsonl").write_text("\n\n".join(map(json.dumps, entries)))
    source = captioned(tmp_path, size=4, length=6, held_out=0.0)
    assert source.held_out is None
    assert source.labels is None
    assert source.prompts is None
    assert source.fields["tokens"].shape == (3, 3, 6)
    assert said(source) == [
        ["a only", "a only", "a only"],
        ["b one", "b two", "b three"],
        ["c one", "c two", "c one"],
    ]


def test_images_without_captions_are_left_out(tmp_path):
    save(tmp_path / "a.png", (10, 10, 10))
    save(tmp_path / "b.png", (20, 20, 20))
    (tmp_path / "captions.csv").write_text("image,caption\nb.png,the b\n")
    source = captioned(tmp_path, size=4)
    assert source.size == 1
    assert source.load(0)[0, 0, 0] == 20
    assert source.held_out is None


def test_given_parts(tmp_path):
    for part in ("train", "val"):
        save(tmp_path / part / "1.png")
        (tmp_path / part / "captions.csv").write_text(f"image,text\n1.png,in {part}\n")
    source = captioned(tmp_path, size=4)
    assert said(source) == ["in train"]
    assert said(source.held_out) == ["in val"]
    # A word of the held-out part alone is none of the vocabulary.
    assert "Ġtrain" not in source.vocabulary  # seen once
    assert "Ġval" not in source.vocabulary


def test_long_captions_are_cut_and_prompts_name_classes(tmp_path):
    colours(tmp_path)
    source = captioned(tmp_path, size=4, length=4, vocab_size=300)
    assert source.fields["tokens"].shape[1] == 4
    assert source.prompts.shape == (3, 3, 4)
    source = captioned(tmp_path, size=4, length=40)
    tokenizer = pieces(source.vocabulary)
    assert tokenizer.decode(source.prompts[0, 0]) == "a photo of a blue"
    assert tokenizer.decode(source.prompts[2, 2]) == "red"


def test_csv_quoting(tmp_path):
    save(tmp_path / "a,b.png")
    content = '\ufeffID, Caption ,IMAGE\r\n1,"two\nlines, ""quoted""","a,b.png"\r\n\r\n'
    (tmp_path / "captions.csv").write_bytes(content.encode())
    assert said(captioned(tmp_path, size=4)) == ['two lines, "quoted"']


@pytest.mark.fault
def test_a_stand_in_comes_with_its_own_caption(tmp_path):
    """The image of another file beside this one's caption would be a false pair."""
    colours(tmp_path)
    for i in (8, 9):  # the next is red
        (tmp_path / "green" / f"{i}.png").write_bytes(b"no image")
    options = {"vocab_size": 400, "length": 16, "max_bad": 0.2}
    source = captioned(tmp_path, size=8, held_out=0.0, **options)
    index = np.arange(source.size, dtype=np.int32)

    def colour_and_caption(batch):
        tokenizer = pieces(source.vocabulary)
        for image, tokens in zip(batch["image"], batch["tokens"], strict=True):
            yield tuple(image[4, 4]), tokenizer.decode(tokens).split()[1]

    batches = [examples(source, index)]
    held = resident(source, limit_bytes=1 << 20)
    batches.append(examples(held, index))
    batches.append(examples(rows(held, index[15:25]), index[:10]))
    assert source.problems()["bad"] == 2
    for batch in batches:
        pairs = list(colour_and_caption(batch))
        assert all(COLOURS[name] == shown for shown, name in pairs)
    tokens = np.asarray(batches[0]["tokens"])
    np.testing.assert_array_equal(tokens, batches[1]["tokens"])
    np.testing.assert_array_equal(tokens, held.fields["tokens"])
    np.testing.assert_array_equal(tokens[15:25], batches[2]["tokens"])
    assert len(np.unique(tokens, axis=0)) == source.size - 2


@pytest.mark.fault
def test_a_stand_in_that_was_not_chosen_brings_its_caption(tmp_path):
    colours(tmp_path)
    (tmp_path / "green" / "9.png").write_bytes(b"no image")  # the next is red
    source = captioned(tmp_path, size=8, vocab_size=400, length=16, held_out=0.0)
    chosen = rows(source, np.array([0, 19]))
    assert said(chosen)[1] == "a green square, number 9"  # none has been read yet
    tokens = examples(chosen, np.arange(2))["tokens"]
    np.testing.assert_array_equal(tokens, source.fields["tokens"][[0, 20]])
    held = resident(chosen, limit_bytes=1 << 20)
    np.testing.assert_array_equal(held.fields["tokens"], tokens)
    np.testing.assert_array_equal(examples(held, np.arange(2))["tokens"], tokens)
    chosen = rows(source, np.array([0, 19]))
    np.testing.assert_array_equal(chosen.fields["tokens"], tokens)
    assert examples(chosen._replace(fields={}), np.arange(2)).keys() == {
        "index",
        "image",
        "label",
    }


@pytest.mark.parametrize(
    ("names", "length"),
    [(("red-car", "red_car", "van"), 16), (("x-y-a", "x-y-b"), 2)],
)
def test_classes_named_alike_are_told(tmp_path, caplog, names, length):
    lines = ["image,caption"]
    for name in names:
        save(tmp_path / name / "1.png")
        lines.append(f"{name}/1.png,a photo")
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    source = captioned(tmp_path, size=4, length=length, held_out=0.0)
    assert source.class_names == names
    (message,) = caplog.messages
    assert f"the classes {names[0]}, {names[1]} have the same prompts" in message


def test_a_share_that_keeps_nothing_is_told(tmp_path, caplog):
    colours(tmp_path, count=1)
    assert captioned(tmp_path, size=4, held_out=0.1).held_out is None
    (message,) = caplog.messages
    assert f"captioned: nothing of '{tmp_path.name}' is held out" in message


def test_undecodable_images(tmp_path, caplog):
    colours(tmp_path, count=50)
    (tmp_path / "green" / "7.png").write_bytes(b"<html>not found</html>")
    source = captioned(tmp_path, size=4, held_out=0.0)
    with caplog.at_level(logging.WARNING, "rl_jax.data"):
        held = resident(source, limit_bytes=1 << 20)
    assert held.problems()["bad"] == 1
    assert held.problems()["names"] == ("green/7.png",)
    assert "green/7.png" in caplog.text
    (bad,) = np.flatnonzero(labels_at(source, np.arange(150)) == -1)
    assert said(source)[bad] == "a green square, number 7"
    for i in range(40):
        (tmp_path / "red" / f"{i}.png").write_bytes(b"")
    with pytest.raises(UsageError, match="max_bad"):
        resident(captioned(tmp_path, size=4, held_out=0.0), limit_bytes=1 << 20)


@pytest.mark.fault
@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "images/../../secret.png",
        "images/../images/a.png",
        "..",
        "",
        "ROOT/images/a.png",
        "/etc/passwd",
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_paths_outside_are_refused(tmp_path, refused, name, kind):
    root = tmp_path / "data"
    save(root / "images" / "a.png")
    save(tmp_path / "secret.png")
    name = name.replace("ROOT", str(root))
    if kind == "csv":
        (root / "captions.csv").write_text(f"image,text\n{name},words\n")
    else:
        (root / "captions.jsonl").write_text(json.dumps({"image": name, "text": "w"}))
    with refused("captions", "line [12]", "below the directory"):
        captioned(root, size=4)


@pytest.mark.fault
def test_missing_images(tmp_path, refused):
    save(tmp_path / "a.png")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    content = "image,text\na.png,one\n\x1b[2J\u202e.png,two\nb.gif,three\n.,four\n"
    (tmp_path / "captions.csv").write_text(content)
    with refused(r"line 3: no image '\\x1b\[2J\\u202e.png'", "2 more lines"):
        captioned(tmp_path, size=4)


@pytest.mark.fault
def test_no_captions(tmp_path, refused):
    with refused("no such directory", "missing"):
        captioned(tmp_path / "missing")
    save(tmp_path / "a.png")
    with refused("captions.csv and captions.jsonl", "neither"):
        captioned(tmp_path)
    with refused("not a directory"):
        captioned(tmp_path / "a.png")
    (tmp_path / "captions.csv").touch()
    with refused("captions.csv', line 1", "image, file or filepath", "found none"):
        captioned(tmp_path)
    (tmp_path / "captions.csv").write_text("image,text\n")
    with refused("holds no captions"):
        captioned(tmp_path)
    (tmp_path / "captions.jsonl").write_text("\n \n")
    with refused("expected one of", "found both"):
        captioned(tmp_path)
    (tmp_path / "captions.csv").unlink()
    with refused("captions.jsonl' holds no captions"):
        captioned(tmp_path)
    (tmp_path / "a.png").unlink()
    with refused("captioned: no images in"):
        captioned(tmp_path)
    (tmp_path / "captions.jsonl").unlink()
    (tmp_path / "captions.csv").mkdir()
    save(tmp_path / "a.png")
    with refused("captions.csv' is not a file"):
        captioned(tmp_path)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("picture,text\na.png,x", ("image, file or filepath", "found picture, text")),
        ("image,<b>\na.png,x", ("caption, title or text", "found image, <b>")),
        ("image,text\na.png,one, two", ("line 2: 3 columns, the header has 2",)),
        ("image,text\na.png", ("line 2: 1 columns",)),
        ("image,text\na.png, \t", ("line 2: the caption is empty",)),
        ('image,text\na.png,"open', ("captions.csv', line 2",)),
        ("image,text\na.png," + "x" * 200_000, ("field larger than field limit",)),
    ],
)
def test_broken_csv(tmp_path, refused, content, parts):
    save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text(content)
    with refused(*parts):
        captioned(tmp_path)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("{", ("line 2 is not JSON",)),
        ("[" * 100_000, ("line 2 is not JSON", "recursion")),
        ("9" * 10_000, ("line 2 is not JSON",)),
        ("[1, 2]", ("line 2: expected an object",)),
        ("NaN", ("line 2: expected an object, got 'NaN'",)),
        ('{"image": "a.png"}', ("caption, title or text", "found image")),
        ('{"image": 3, "text": "x"}', ("image must be a string, got int",)),
        ('{"image": "a.png", "text": ["x"]}', ("text must be a string, got list",)),
        ('{"image": "a.png", "text": ""}', ("line 2: the caption is empty",)),
        ('{"image": "\\ud800.png", "text": "x"}', (r"no image '\\ud800.png'",)),
        ('{"image": "a\\u0000.png", "text": "x"}', (r"no image 'a\\x00.png'",)),
    ],
)
def test_broken_json(tmp_path, refused, line, parts):
    save(tmp_path / "a.png")
    good = '{"image": "a.png", "text": "good"}'
    (tmp_path / "captions.jsonl").write_text(f"{good}\n{line}\n")
    with refused(*parts):
        captioned(tmp_path)


@pytest.mark.fault
def test_strange_captions(tmp_path):
    save(tmp_path / "a.png")
    texts = ["<script>alert(1)</script>", "[MASK]", "\ud800", "猫 🐈", "x" * 9000]
    lines = [json.dumps({"image": "a.png", "text": each}) for each in texts]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    tokens = captioned(tmp_path, size=4).fields["tokens"]
    assert tokens.shape == (1, 5, 32)
    assert (tokens[:, :, 0] > 2).all()


@pytest.mark.fault
def test_what_is_too_large(tmp_path, refused):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    with open(tmp_path / "captions.csv", "wb") as file:
        file.truncate(1 << 40)
    with refused("captions.csv' is larger than limit_bytes, 268,435,456"):
        captioned(tmp_path)
    (tmp_path / "captions.csv").write_text("image,text\na.png,x\nb.png,x\n")
    with refused("larger than limit_bytes, 10"):
        captioned(tmp_path, limit_bytes=10)
    content = "image,text\nb.png,x\n" + "a.png,x\n" * 20_000
    (tmp_path / "captions.csv").write_text(content)
    with refused("2 images with up to 20,000 captions of 8192 tokens", "limit is"):
        captioned(tmp_path, length=8192, held_out=0.0)


@pytest.mark.fault
def test_other_encodings(tmp_path, refused):
    save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_bytes(b"image,text\na.png,caf\xe9")
    with refused("captions.csv' is not UTF-8", "at byte 20"):
        captioned(tmp_path)


@pytest.mark.fault
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_captions(tmp_path, refused):
    save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("image,text\na.png,x")
    (tmp_path / "captions.csv").chmod(0)
    with refused("cannot be read", "Permission denied"):
        captioned(tmp_path)


def test_bad_arguments(tmp_path, refused):
    colours(tmp_path, count=1)
    with refused("captioned: size must be >= 1"):
        captioned(tmp_path, size=0)
    with refused(r"captioned: max_bad must be in \[0, 1\]"):
        captioned(tmp_path, max_bad=2)
    with refused(r"captioned: held_out must be in \[0, 1\)"):
        captioned(tmp_path, held_out=1.0)
    with refused("length must be"):
        captioned(tmp_path, length=0)
    with refused("vocab_size must be"):
        captioned(tmp_path, vocab_size=2)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_may_be_written_in_two_ways(tmp_path, forms):
    there, said_there = (unicodedata.normalize(form, "café.png") for form in forms)
    for colour in COLOURS:
        save(tmp_path / f"{colour}.png")
    save(tmp_path / there)
    lines = [f"{name},one" for name in (*(f"{c}.png" for c in COLOURS), said_there)]
    (tmp_path / "captions.csv").write_text("\n".join(["filepath,title", *lines]))
    source = captioned(tmp_path, size=8, vocab_size=300, length=8, held_out=0.0)
    assert there in source.files

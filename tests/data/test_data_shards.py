"""Tar shards as WebDataset writes them, with what can be wrong with them."""

import gzip
import importlib
import io
import json
import logging
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from rl_jax.data import (
    captioned,
    fingerprint,
    folder,
    has_captions,
    labels_at,
    layout,
    pieces,
    resident,
    rows,
    shards,
    stream,
    usual_side,
)

cache = importlib.import_module("rl_jax.data.webdataset.cache")
tars = importlib.import_module("rl_jax.data.webdataset.tar")


def image(value=0, *, size=(12, 10), form="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(file, form)
    return file.getvalue()


def pack(path, members, **options):
    """A tar of `{name: bytes}`, or of `TarInfo` and bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as file:
        for name, content in members.items() if isinstance(members, dict) else members:
            entry = name
            if isinstance(name, str):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def samples(values, *, captions=True):
    found = {}
    for value in values:
        found[f"{value:04}.png"] = image(value)
        found[f"{value:04}.cls"] = str(value % 3).encode()
        if captions:
            found[f"{value:04}.txt"] = f"the grey of {value}".encode()
    return found


def values(source):
    return [int(source.load(i)[0, 0, 0]) for i in range(source.size)]


def test_samples(tmp_path):
    pack(
        tmp_path / "b.tar",
        {
            "./z.png": image(40),
            "deep/er.v1/x ü.JPG": image(30, form="JPEG"),
            "deep/er.v1/x ü.cls": b" 2\n",
            "._z.png": b"of a Mac",
            "README": b"",
            "z.seg.png": image(99),
        },
    )
    pack(tmp_path / "a" / "1.tar", {"k.cls": b"0", "k.webp": image(10, form="WebP")})
    source = shards(tmp_path, size=8)
    assert values(source) == [10, 40, 30]
    assert (source.size, source.image_shape) == (3, (8, 8, 3))
    np.testing.assert_array_equal(source.labels, [0, -1, 2])
    assert source.labels.dtype == np.int32
    assert source.class_names == ("0", "1", "2")
    assert source.name == tmp_path.name
    assert source.held_out is source.images is None
    names = ["a/1.tar/k.webp", "b.tar/z.png", "b.tar/deep/er.v1/x ü.JPG"]
    assert list(source.files) == names
    assert source.problems() == {"seen": 3, "bad": 0, "names": ()}


def test_a_stream_is_that_of_a_folder_with_the_same_images(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{i:02}.png" for i in range(24)]
    for i, name in enumerate(names):
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).write_bytes(file.getvalue())
        with tarfile.open(tmp_path / f"{i // 8}.tar", "a") as archive:
            archive.add(tmp_path / "images" / name, name)
    found = []
    for source in (folder(tmp_path / "images", size=8), shards(tmp_path, size=8)):
        with stream(source, seed=3, batch_size=7, start_step=2, num_steps=4) as batches:
            found.append(list(batches))
    for one, two in zip(*found, strict=True):
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])


def test_a_sample_is_one_wherever_its_files_lie(tmp_path):
    """As `tar` packs a folder: in the order of the disk."""
    members = samples(range(5))
    backwards = dict(reversed(sorted(members.items(), key=lambda item: item[0][::-1])))
    pack(tmp_path / "a.tar", backwards)
    source = captioned(tmp_path, size=4, held_out=0.0)
    tokenizer = pieces(source.vocabulary)
    for i, value in enumerate(values(source)):
        assert source.labels[i] == value % 3
        said = tokenizer.decode(source.fields["tokens"][i])
        assert said == f"the grey of {value}"


def test_of_several_images_the_first_that_open_clip_takes(tmp_path):
    pack(tmp_path / "a.tar", {"k.webp": image(9), "k.png": image(5), "k.jpeg": b""})
    assert values(shards(tmp_path, size=4)) == [5]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path, format):
    long = "/".join(["d" * 90] * 4) + "/ü" + "n" * 150
    members = {f"{long}.png": image(7), f"{long}.cls": b"4", "b.png": image(8)}
    pack(tmp_path / "a.tar", members, format=format)
    source = shards(tmp_path, size=4)
    assert values(source) == [7, 8]
    np.testing.assert_array_equal(source.labels, [4, -1])
    assert source.files[0] == f"a.tar/{long}.png"
    prefix = "/".join(["d" * 60] * 3) + "/name.png"
    pack(tmp_path / "a.tar", {prefix: image(7)}, format=tarfile.USTAR_FORMAT)
    assert shards(tmp_path, size=4).files[0] == f"a.tar/{prefix}"


def test_sizes_that_only_extended_headers_hold(tmp_path):
    entry = tarfile.TarInfo("a.png")
    entry.size = len(image(7))
    entry.pax_headers = {"size": str(entry.size), "comment": "12 a=b\n"}
    members = [(entry, image(7)), ("b.png", image(8))]
    pack(tmp_path / "a.tar", members, format=tarfile.PAX_FORMAT)
    assert values(shards(tmp_path, size=4)) == [7, 8]


@pytest.mark.fault
def test_links_are_no_images(tmp_path, caplog):
    members = [("a.png", image(7))]
    for name, kind in (("b.png", tarfile.SYMTYPE), ("c.png", tarfile.LNKTYPE)):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "a.png"
        members.append((entry, b""))
    for name, kind in (("d.png", tarfile.DIRTYPE), ("e.png", tarfile.FIFOTYPE)):
        entry = tarfile.TarInfo(name)
        entry.type = kind
        members.append((entry, b""))
    pack(tmp_path / "a.tar", [*members, ("f.png", image(9))])
    source = shards(tmp_path, size=4, max_bad=1.0)
    assert values(source) == [7, 9, 9, 9]
    assert source.problems()["names"] == ("a.tar/b.png", "a.tar/c.png")
    assert "cannot decode a.tar/b.png: a link or a sparse file" in caplog.text


@pytest.mark.fault
def test_sparse_files_are_no_images(tmp_path):
    """The old way of GNU, with more holes than a header tells of, and that of POSIX."""
    content = image(7)
    old = tarfile.TarInfo("a.png")
    old.size, old.type = len(content), tarfile.GNUTYPE_SPARSE
    header = bytearray(old.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more = bytearray(512)
    padding = bytes(-len(content) % 512)
    new = tarfile.TarInfo("GNUSparseFile.0/b.png")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "b.png"}
    new.size = len(content)
    sound = tarfile.TarInfo("c.png")
    sound.size = len(content)
    (tmp_path / "a.tar").write_bytes(
        b"".join(
            [header, more, content, padding]
            + [new.tobuf(tarfile.PAX_FORMAT), content, padding]
            + [sound.tobuf(), content, padding, bytes(1024)]
        )
    )
    source = shards(tmp_path, size=4, max_bad=1.0)
    assert list(source.files) == ["a.tar/a.png", "a.tar/b.png", "a.tar/c.png"]
    assert values(source) == [7, 7, 7]
    assert source.problems()["bad"] == 2


@pytest.mark.parametrize(
    ("names", "train", "held_out"),
    [
        ("train/0 train/1 val/0 test/0", 2, "val"),
        ("train-0 train-1 test-0", 2, "test"),
        ("imagenet1k-train-00 imagenet1k-validation-00", 1, "validation"),
        ("data/train00 data/test00 data/val00", 1, "val"),
        ("latest-0 trains-1 contest", 3, None),
        ("val-0 test-0", 2, None),
    ],
)
def test_parts(tmp_path, names, train, held_out):
    for value, name in enumerate(names.split()):
        pack(tmp_path / f"{name}.tar", {"a.png": image(value)})
    source = shards(tmp_path, size=4)
    assert source.size == train
    if held_out is None:
        assert source.held_out is None
    else:
        assert f"{held_out}" in source.held_out.files[0]
        assert source.held_out.size == 1


def test_a_tar_of_no_part_beside_parts(tmp_path, refused):
    for name in ("train-0", "val-0", "extra-0"):
        pack(tmp_path / f"{name}.tar", {"a.png": image()})
    with refused("shards: 'extra-0.tar' is of no part", "train and val or test"):
        shards(tmp_path)


def test_patterns(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(
        importlib.import_module("rl_jax.data.webdataset.files"), "_MOST", 99
    )
    for k in range(12):
        pack(tmp_path / f"s-{k:03}.tar", samples([k]))
    assert values(shards(tmp_path / "s-{008..011}.tar", size=4)) == [8, 9, 10, 11]
    assert values(shards(tmp_path / "s-0{0{1,0},11}.tar", size=4)) == [0, 1, 11]
    assert values(shards(tmp_path / "s-00{0..9}.tar", size=4)) == [*range(10)]
    assert values(shards(tmp_path / "s-003.tar", size=4)) == [3]
    assert layout(tmp_path / "s-{008..011}.tar") == "shards"
    with refused(r"no such file: '.*s-012.tar', nor 7 more of 10"):
        shards(tmp_path / "s-{010..019}.tar")
    with refused("stands for more than 99 files"):
        shards(tmp_path / "s-{0..9}{0..9}.tar")
    with refused(r"no such file: '.*/none.tar'"):
        shards(tmp_path / "none.tar")


def test_names_of_classes(tmp_path, refused):
    pack(tmp_path / "train-0.tar", samples(range(6)))
    pack(tmp_path / "test-0.tar", samples([1]))
    (tmp_path / "classnames.txt").write_text("cat\nbig dog\nemü\n")
    source = shards(tmp_path, size=4)
    assert source.class_names == ("cat", "big dog", "emü")
    assert source.held_out.class_names == source.class_names
    texts = captioned(tmp_path, size=4)
    assert texts.prompts.shape == (3, 3, 32)
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    with refused("classnames.txt': 2 class names for labels up to 2"):
        shards(tmp_path)
    (tmp_path / "classnames.txt").write_bytes(b"\xff")
    with refused("classnames.txt' cannot be read: invalid start byte"):
        shards(tmp_path)


def test_captions(tmp_path, caplog):
    said = {"a.txt": b" of a\n", "b.json": json.dumps({"caption": "of b"}).encode()}
    said |= {"c.json": b'{"label": 3}', "d.json": b"[[", "e.txt": b" \n"}
    said |= {"f.json": b'{"caption": "no"}', "f.txt": "of ü".encode()}
    pack(
        tmp_path / "a.tar",
        {f"{k}.png": image(i) for i, k in enumerate("abcdef")} | said,
    )
    source = captioned(tmp_path, size=4, held_out=0.0)
    tokenizer = pieces(source.vocabulary)
    assert [tokenizer.decode(row) for row in source.fields["tokens"]] == [
        *("of a", "of b", "of ü"),
    ]
    assert values(source) == [0, 1, 5]
    assert source.files[2] == "a.tar/f.png"
    assert "left out 3 of 6 images without a caption" in caplog.text
    assert has_captions(tmp_path)


def test_a_share_of_captioned_images_is_held_out(tmp_path):
    pack(tmp_path / "a.tar", samples(range(30)))
    source = captioned(tmp_path, size=4, held_out=0.2)
    assert (source.size, source.held_out.size) == (24, 6)
    np.testing.assert_array_equal(np.bincount(source.held_out.labels), [2, 2, 2])
    tokenizer = pieces(source.vocabulary)
    for part in (source, source.held_out):
        for value, row in zip(values(part), part.fields["tokens"], strict=True):
            assert tokenizer.decode(row) == f"the grey of {value}"
    again = captioned(tmp_path, size=4, held_out=0.2, vocabulary=source.vocabulary)
    assert again.digest() == source.digest()


def test_no_captions(tmp_path, refused):
    pack(tmp_path / "a.tar", samples(range(3), captions=False))
    assert not has_captions(tmp_path)
    with refused("captioned: none of the 3 images in .* has a caption", "NAME.txt"):
        captioned(tmp_path)


@pytest.mark.fault
def test_an_undecodable_image_is_replaced_by_the_next_and_loses_its_label(tmp_path):
    members = samples(range(6)) | {"0002.png": b"no image", "0005.png": b""}
    pack(tmp_path / "a.tar", members)
    source = captioned(tmp_path, size=4, held_out=0.0, max_bad=1.0)
    assert values(source) == [0, 1, 3, 3, 4, 0]
    np.testing.assert_array_equal(labels_at(source, np.arange(6)), [0, 1, -1, 0, 1, -1])
    assert source.problems()["names"] == ("a.tar/0002.png", "a.tar/0005.png")
    chosen = rows(shards(tmp_path, size=4, max_bad=1.0), np.array([2, 1]))
    held = resident(chosen, limit_bytes=10**6, threads=1)
    np.testing.assert_array_equal(held.labels, [-1, 1])
    assert list(chosen.files) == ["a.tar/0002.png", "a.tar/0001.png"]


@pytest.mark.fault
def test_too_many_undecodable_images(tmp_path, refused):
    pack(tmp_path / "a.tar", {f"{i}.png": b"no image" for i in range(4)})
    with refused("shards '.*': 2 of the 2 files read", "a.tar/0.png"):
        values(shards(tmp_path, size=4))
    with refused("shards: none of the 1 images in", "the first is 'b.tar/k.png'"):
        values(shards(pack(tmp_path / "b.tar", {"k.png": b""}), size=4, max_bad=1.0))


SOUND = {"a.png": image(1), "a.cls": b"0"}


def test_what_samples_lack_is_told(tmp_path, caplog):
    pack(tmp_path / "a.tar", SOUND | {"b.png": image(2), "c.txt": b"c", "d.cls": b"1"})
    pack(tmp_path / "b.tar", {})
    source = shards(tmp_path, size=4)
    np.testing.assert_array_equal(source.labels, [0, -1])
    assert "left out 2 samples without an image, as a.tar/c" in caplog.text
    assert "1 of the 2 images have no .cls, or -1 there" in caplog.text


@pytest.mark.fault
@pytest.mark.parametrize(
    ("members", "parts"),
    [
        ({"a.cls": b"cat"}, ("a.tar' has 'cat' in a.cls, expected the number",)),
        ({"a.cls": b"1.0"}, ("'1.0' in a.cls",)),
        ({"a.cls": b"9" * 20}, (r"the class 9{20} in a.cls, expected one in",)),
        ({"a.cls": b"-2"}, ("the class -2 in a.cls",)),
        ([("a.png", b""), ("a.png", b"")], ("a.tar' holds a.png twice",)),
        ([("a.png", b""), ("./a.PNG", b"")], ("a.tar' holds a.png twice",)),
        ({}, ("no images in '.*a.tar': expected files NAME.jpg",)),
        ({"a.b.png": image()}, ("no images in", "first point; found 'a.tar/a.b.png'")),
        ({"a.txt": b"a"}, ("no images in", "found 'a.tar/a'")),
    ],
)
def test_unusable_samples(tmp_path, refused, members, parts):
    members = members if isinstance(members, list) else [*members.items()]
    if any(name.endswith(".cls") for name, _ in members):
        members += [("a.png", image())]
    pack(tmp_path / "a.tar", members)
    with refused("^shards: ", *parts):
        shards(tmp_path)


def _named_alone():
    """The long name of a member that does not follow."""
    return tarfile.TarInfo("n" * 200).tobuf(tarfile.GNU_FORMAT)[:1024]


@pytest.mark.fault
def test_damaged_tars(tmp_path, refused):
    members = {"ä.png": image(1), "b.png": image(2)}
    path = pack(tmp_path / "a.tar", members, format=tarfile.GNU_FORMAT)
    sound = path.read_bytes()
    for content, reason in (
        (b"", "is empty, 0 bytes"),
        (b"no tar", "is cut short: it ends after 6 bytes"),
        (b"no tar" * 100, "is no tar"),
        (b"\xff" * 600, "is no tar"),
        (sound[:540], "is cut short: it ends after 540 bytes, inside 'ä.png'"),
        (sound[:700], "is cut short: it ends after 700 bytes"),
        (sound[:1100], "is cut short: it ends after 1100 bytes"),
        (sound[:1024] + b"x" * 512, "is damaged: there is no header at byte 1024"),
        (gzip.compress(sound), "is compressed by gzip"),
        (_named_alone(), "is cut short: it ends after 1024 bytes"),
    ):
        path.write_bytes(content)
        with refused(f"shards: '.*a.tar' {reason}"):
            shards(tmp_path)
    path.write_bytes(sound[: 2 * 1024])  # without the zeros at its end
    assert values(shards(tmp_path, size=4)) == [1, 2]


@pytest.mark.fault
@pytest.mark.parametrize(
    "size", [b"\xff" * 12, b"-0000000010\0", b"0_0000000010", b"\x80" + b"\xff" * 11]
)
def test_sizes_that_are_none(tmp_path, refused, size):
    """One that is negative would lead back to where the reader has been."""
    path = pack(tmp_path / "a.tar", {"a.png": image(), "b.png": image()})
    content = bytearray(path.read_bytes())
    header = content[1024:1536]
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    path.write_bytes(content)
    with refused("at byte 1024|cut short: .* inside 'b.png'"):
        shards(tmp_path)


@pytest.mark.fault
@pytest.mark.parametrize(
    "records", [b"0 a=b\n", b"99 a=b\n", b"x=b\n", b"9 size=x\n", b"5 abcd"]
)
def test_extended_headers_that_are_none(tmp_path, refused, records):
    entry = tarfile.TarInfo("x")
    entry.size, entry.type = len(records), b"x"
    padding = bytes(-len(records) % 512)
    path = tmp_path / "a.tar"
    path.write_bytes(entry.tobuf() + records + padding + bytes(1024))
    with refused("a.tar' is damaged: no extended header at byte 512"):
        shards(tmp_path)


@pytest.mark.fault
def test_compressed_tars(tmp_path, refused):
    path = pack(tmp_path / "a.tar", SOUND)
    (tmp_path / "a.tar.gz").touch()
    assert shards(tmp_path).size == 1  # unpacked beside it
    path.unlink()
    for given in (tmp_path, tmp_path / "a.tar.gz"):
        assert layout(given) == "shards"
        with refused("a.tar.gz' is compressed", "gunzip"):
            shards(given)


@pytest.mark.fault
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_closed_tars(tmp_path, refused):
    pack(tmp_path / "a.tar", SOUND).chmod(0)
    with refused("cannot read '.*a.tar': Permission denied"):
        shards(tmp_path)


@pytest.mark.fault
def test_a_tar_that_changes_under_way(tmp_path, refused):
    path = pack(tmp_path / "a.tar", SOUND)
    source = shards(tmp_path, size=4)
    content = path.read_bytes()
    path.write_bytes(content[:512])
    with refused("a.tar' has changed since it was opened"):
        source.load(0)
    path.unlink()
    with refused("cannot read '.*a.tar': No such file"):
        source.load(0)


def test_the_digest_tells_what_changed(tmp_path):
    def digest(where, members):
        pack(tmp_path / where / "a.tar", members)
        return fingerprint(shards(tmp_path / where, size=4))["digest"]

    assert digest("one", SOUND) == digest("two", SOUND)
    assert digest("one", SOUND) != digest("two", SOUND | {"a.cls": b"1"})
    assert digest("one", SOUND) != digest("two", SOUND | {"b.png": image(3)})


def test_few_tars_are_open_at_a_time_and_none_is_pickled(tmp_path, monkeypatch):
    for k in range(100):
        pack(tmp_path / f"{k:03}.tar", {"a.png": image(k)})
    before = len(os.listdir("/proc/self/fd"))
    source = shards(tmp_path, size=4)
    assert values(source) == [*range(100)]
    assert len(os.listdir("/proc/self/fd")) <= before + 64
    again = pickle.loads(pickle.dumps(source))
    held = resident(again, limit_bytes=10**6, threads=8)
    np.testing.assert_array_equal(held.images[:, 0, 0, 0], np.arange(100))
    tars._opened.cache_clear()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_was_found_is_kept_where_it_took_long(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = pack(tmp_path / "data" / "ü.tar", samples(range(3)) | {"d.txt": b"no image"})
    one = shards(path.parent, size=4)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(cache, "WORTH_KEEPING", 0.0)
    shards(path.parent, size=4)
    (kept,) = (tmp_path / "cache" / "rl_jax" / "shards").iterdir()
    index = importlib.import_module("rl_jax.data.webdataset.index")
    with monkeypatch.context() as patch:
        patch.setattr(index, "_scanned", None)
        two = shards(path.parent, size=4)
    assert two.digest() == one.digest()
    assert list(two.files) == list(one.files)
    assert values(two) == values(one)
    kept.write_bytes(kept.read_bytes()[:100])
    assert shards(path.parent, size=4).digest() == one.digest()
    pack(path, samples(range(4)))
    assert shards(path.parent, size=4).size == 4
    assert len(list(kept.parent.iterdir())) == 1
    assert [each.name for each in path.parent.iterdir()] == ["ü.tar"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))  # no folder can be made there
    assert shards(path.parent, size=4).size == 4


def test_progress_of_a_long_search_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(
        importlib.import_module("rl_jax.data.webdataset.index"), "_EVERY", -1.0
    )
    caplog.set_level(logging.WARNING)
    for k in range(2):
        pack(tmp_path / f"{k}.tar", SOUND)
    shards(tmp_path)
    assert "looked into 1 of 2 tars, 1 images so far" in caplog.text


def test_layout_and_usual_side(tmp_path):
    assert layout(tmp_path) == "folder"
    assert layout(tmp_path / "none.tar") is None
    pack(tmp_path / "train" / "a.tar", {"a.png": image(size=(30, 20)), "b.png": b""})
    assert layout(tmp_path) == "shards"
    assert usual_side(tmp_path) == usual_side(tmp_path / "train" / "a.tar") == 20
    (tmp_path / "preview.png").write_bytes(image())
    assert layout(tmp_path) == "shards"
    # What images were unpacked from may lie beside them.
    (tmp_path / "train" / "a.png").write_bytes(image())
    assert layout(tmp_path) == "folder"


def test_bad_arguments(tmp_path, refused):
    with refused("shards: size must be >= 1, got 0"):
        shards(tmp_path, size=0)
    with refused(r"shards: max_bad must be in \[0, 1\], got 2"):
        shards(tmp_path, max_bad=2)
    with refused("shards: no .tar files in"):
        shards(tmp_path)

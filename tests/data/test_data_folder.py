"""Directory trees of images, with the damaged files of the fault list."""

import logging
import os
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from rl_jax.data import decode as decoder
from rl_jax.data import examples, folder, resident, rows, usual_side
from rl_jax.errors import UsageError


def save(path, value=None, *, size=(12, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value or 0,) * 3).save(path, **options)


def values(source):
    return [int(source.load(i)[0, 0, 0]) for i in range(source.size)]


def test_tree(tmp_path):
    save(tmp_path / "b" / "2.PNG", 40)
    save(tmp_path / "b" / "10.png", 30)
    save(tmp_path / "a" / "deep" / "er" / "x y ü.WebP", 20, lossless=True)
    save(tmp_path / "a" / "1.JPeG", 10, quality=100)
    save(tmp_path / "root.jpg", 50)
    save(tmp_path / "a" / ".hidden.png")
    save(tmp_path / ".hidden" / "3.png")
    save(tmp_path / "a" / "animated.gif")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "b" / "directory.jpg").mkdir()
    os.mkfifo(tmp_path / "b" / "pipe.png")
    source = folder(tmp_path, size=8)
    assert values(source) == [10, 20, 30, 40, 50]
    assert (source.size, source.image_shape) == (5, (8, 8, 3))
    np.testing.assert_array_equal(source.labels, [0, 0, 1, 1, -1])
    assert source.labels.dtype == np.int32
    assert source.class_names == ("a", "b")
    assert source.name == tmp_path.name
    assert source.held_out is source.images is None
    assert source.load(0).dtype == np.uint8
    assert source.load(0).shape == (8, 8, 3)
    assert source.problems() == {"seen": 5, "bad": 0, "names": ()}


def test_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    for i, name in enumerate("cab"):
        save(tmp_path / f"{name}.png", i)
    monkeypatch.setattr(os, "scandir", _backwards(os.scandir))
    assert values(folder(tmp_path, size=4)) == [1, 2, 0]


def _backwards(scandir):
    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self._entries = sorted(entries, key=lambda e: e.name, reverse=True)

        def __enter__(self):
            return self._entries

        def __exit__(self, *_):
            pass

    return Backwards


def test_links(tmp_path):
    save(tmp_path / "real" / "a.png", 10)
    save(tmp_path / "elsewhere" / "b.png", 20)
    root = tmp_path / "data"
    root.mkdir()
    (root / "dir").symlink_to(tmp_path / "real")
    (root / "file.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "real" / "up").symlink_to(root)
    (tmp_path / "real" / "self").symlink_to(tmp_path / "real")
    (root / "own.txt").symlink_to(root / "own.txt")
    assert values(folder(root, size=4)) == [10, 20]


def test_labels_need_two_classes(tmp_path):
    save(tmp_path / "images" / "a.png")
    (tmp_path / "empty").mkdir()
    source = folder(tmp_path, size=4)
    assert source.labels is None
    assert source.class_names == ()


@pytest.mark.parametrize(
    ("parts", "held_out"),
    [("train test", "test"), ("train val", "val"), ("train val test", "val")],
)
def test_held_out(tmp_path, parts, held_out):
    for value, part in enumerate(parts.split()):
        save(tmp_path / part / "cat" / "1.png", 10 * value)
        save(tmp_path / part / "dog" / "1.png", 10 * value + 1)
    save(tmp_path / held_out / "emu" / "1.png", 99)
    source = folder(tmp_path, size=4)
    first = 10 * parts.split().index(held_out)
    assert values(source) == [0, 1]
    assert values(source.held_out) == [first, first + 1, 99]
    assert source.class_names == ("cat", "dog", "emu") == source.held_out.class_names
    np.testing.assert_array_equal(source.labels, [0, 1])
    np.testing.assert_array_equal(source.held_out.labels, [0, 1, 2])


@pytest.mark.parametrize("parts", ["train other", "test val", "train test other"])
def test_other_directories_are_classes(tmp_path, parts):
    for part in parts.split():
        save(tmp_path / part / "1.png")
    source = folder(tmp_path, size=4)
    assert source.held_out is None
    assert source.class_names == tuple(sorted(parts.split()))


def damaged(root):
    """The damaged files of the fault list, and their names."""
    save(root / "c" / "truncated.jpg", 9, size=(64, 64))
    content = (root / "c" / "truncated.jpg").read_bytes()
    (root / "c" / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (root / "a" / "zero.jpg").touch()
    (root / "b" / "page.jpg").write_text("<html>not found</html>")
    (root / "b" / "dangling.png").symlink_to(root / "gone.png")
    save(root / "c" / "closed.png", 9)
    (root / "c" / "closed.png").chmod(0)
    names = ["a/zero.jpg", "b/dangling.png", "b/page.jpg"]
    names += [] if os.geteuid() == 0 else ["c/closed.png"]  # root may read it
    return [*names, "c/truncated.jpg"]


@pytest.fixture
def mixed(tmp_path):
    """Sound files of every kind between damaged ones."""
    for directory in "abc":
        (tmp_path / directory).mkdir()
    names = damaged(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 4), dtype=np.uint8)
    Image.fromarray(noise[..., :3]).convert("CMYK").save(tmp_path / "a" / "cmyk.jpg")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(
        tmp_path / "a" / "16.png"
    )
    Image.fromarray(noise[..., 0]).save(tmp_path / "a" / "grey.jpeg")
    Image.fromarray(noise).save(tmp_path / "b" / "rgba.png")
    Image.fromarray(noise[:1, :1, :3]).save(tmp_path / "b" / "1x1.png")
    wide = Image.new("RGB", (4000, 1))
    wide.save(tmp_path / "b" / "1x4000.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(tmp_path / "c" / "turned ü.jpg", exif=exif)
    (tmp_path / "c" / "x.jpg").mkdir()
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    return tmp_path, names


@pytest.mark.fault
def test_damaged_files_are_replaced_and_named(mixed, caplog):
    root, bad = mixed
    source = folder(root, size=8, max_bad=1.0)
    caplog.set_level(logging.WARNING)
    images = [source.load(i) for i in range(source.size)]
    assert all(image.shape == (8, 8, 3) for image in images)
    found = source.problems()
    assert found["seen"] == source.size
    assert found["bad"] == len(bad)
    assert sorted(found["names"]) == bad
    assert len(caplog.messages) == len(bad)
    for name in bad:
        assert sum(name in message for message in caplog.messages) == 1
        assert "\n" not in "".join(caplog.messages)
    files = source.load.args[1]
    for i, name in enumerate(files):
        if name in bad:
            following = next(
                j % len(files)
                for j in range(i, i + len(files))
                if files[j % len(files)] not in bad
            )
            np.testing.assert_array_equal(images[i], images[following])


@pytest.mark.fault
def test_replacement_does_not_depend_on_the_order_of_reading(mixed):
    root, _ = mixed
    forward, backward = (folder(root, size=8, max_bad=1.0) for _ in range(2))
    first = {i: forward.load(i) for i in range(forward.size)}
    again = {i: backward.load(i) for i in reversed(range(backward.size))}
    for i, image in first.items():
        np.testing.assert_array_equal(image, again[i])
        np.testing.assert_array_equal(image, forward.load(i))
    assert set(forward.problems()["names"]) == set(backward.problems()["names"])


@pytest.mark.fault
def test_a_replaced_image_has_no_label(mixed):
    root, bad = mixed
    source = folder(root, size=8, max_bad=1.0)
    held = resident(source, limit_bytes=10**6, threads=2)
    for name, label in zip(source.load.args[1], held.labels, strict=True):
        assert label == (-1 if name in bad else "abc".index(name[0]))
    assert (source.labels >= 0).all()


@pytest.mark.fault
def test_chosen_rows_know_their_files(tmp_path):
    for i in range(6):
        save(tmp_path / "ab"[i // 3] / f"{i}.png", 10 * i)
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    index = np.array([5, 2, 1])
    for chosen in (
        rows(folder(tmp_path, size=4), index),
        rows(rows(folder(tmp_path, size=4), index[::-1]), np.array([2, 1, 0])),
        pickle.loads(pickle.dumps(rows(folder(tmp_path, size=4), index))),
    ):
        held = resident(chosen, limit_bytes=10**6, threads=1)
        np.testing.assert_array_equal(held.labels, [1, -1, 0])
        for source in (chosen, held):
            batch = examples(source, np.arange(3))
            np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], [50, 30, 10])
            np.testing.assert_array_equal(batch["label"], [1, -1, 0])
        assert chosen.problems()["names"] == ("a/2.png",)


def test_only_rows_that_there_are_can_be_chosen(tmp_path, refused):
    save(tmp_path / "1.png")
    source = folder(tmp_path, size=4)
    for index in ([1], [-1]):
        with refused(r"rows: index must be in \[0, 1\)", rf"got {index[0]} \.\. "):
            rows(source, np.array(index))
    for index in ([True], [0.0], [[0]], []):
        with refused("rows: index must be", "np.flatnonzero"):
            rows(source, np.array(index))


@pytest.mark.fault
def test_too_many_damaged_files_stop_the_run(mixed, refused):
    root, _ = mixed
    with refused("2 of the [0-9]+ files", "max_bad=0.01", "zero.jpg"):
        resident(folder(root, size=8), limit_bytes=10**6, threads=1)


@pytest.mark.fault
def test_the_last_file_is_replaced_by_the_first(tmp_path):
    save(tmp_path / "a.png", 1)
    save(tmp_path / "b.png", 2)
    (tmp_path / "c.png").touch()
    assert values(folder(tmp_path, size=4)) == [1, 2, 1]


@pytest.mark.fault
def test_a_bad_file_is_read_once(tmp_path, monkeypatch):
    save(tmp_path / "b.png", 7)
    (tmp_path / "a.png").touch()
    source = folder(tmp_path, size=4)
    assert values(source) == [7, 7]
    read = []
    original = decoder.open = open
    monkeypatch.setattr(
        decoder, "open", lambda p, *a: (read.append(p), original(p, *a))[1]
    )
    assert values(source) == [7, 7]
    assert [os.path.basename(path) for path in read] == ["b.png", "b.png"]


@pytest.mark.fault
def test_nothing_decodable(tmp_path, refused):
    (tmp_path / "a\n.png").touch()
    with refused("none of the 1 images", "can be decoded", r"a\\+n\.png"):
        folder(tmp_path, size=4).load(0)


@pytest.mark.fault
def test_paths(tmp_path, refused, monkeypatch):
    with refused("no such directory", "missing"):
        folder(tmp_path / "missing")
    with refused(
        "no images", "searched 1 directories", r"\.jpg, \.jpeg, \.png, \.webp"
    ):
        folder(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.gif").touch()
    with refused("searched 2 directories", "found 1 other files"):
        folder(tmp_path)
    with refused("a.gif", "is not a directory"):
        folder(tmp_path / "sub" / "a.gif")
    with refused("size must be >= 1, got 0"):
        folder(tmp_path, size=0)
    with refused(r"max_bad must be in \[0, 1\], got 1.5"):
        folder(tmp_path, max_bad=1.5)
    scandir = os.scandir

    def closed(path):
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with refused("cannot list", "sub", "Permission denied"):
        folder(tmp_path)


def test_errors_are_usage_errors(tmp_path):
    with pytest.raises(UsageError) as caught:
        folder(tmp_path / "missing")
    assert caught.value.exit_code == 2


def test_the_usual_side_is_found_through_links(tmp_path):
    save(tmp_path / "store" / "a" / "1.png")
    side = usual_side(tmp_path / "store")
    links = tmp_path / "links"
    links.mkdir()
    (links / "a").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "store" / "a" / "up").symlink_to(links)
    assert side is not None
    assert usual_side(links) == side


def test_a_very_deep_folder(tmp_path):
    where = tmp_path
    for _ in range(sys.getrecursionlimit() + 50):
        where /= "d"
        try:
            where.mkdir()
        except OSError:  # the system's limit of a path
            where = where.parent
            break
    save(tmp_path / "a.png")
    save(tmp_path / "e.png")
    Image.new("RGB", (4, 4)).save(where / "b.png")
    found = folder(tmp_path, size=4).files
    assert [name.rpartition("/")[2] for name in found] == ["a.png", "b.png", "e.png"]
    # What removes folders of tests goes down by recursion.
    (where / "b.png").unlink()
    while where != tmp_path:
        where.rmdir()
        where = where.parent

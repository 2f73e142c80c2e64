"""Datasets of Hugging Face from the disk: of `save_to_disk`, and Parquet."""

import importlib
import io
import os
import pickle
import socket
import sys

import numpy as np
import pytest
from PIL import Image

from rl_jax.data import (
    captioned,
    fingerprint,
    folder,
    has_captions,
    hugging_face,
    labels_at,
    layout,
    pieces,
    stream,
    usual_side,
)


def test_the_package_is_named_where_it_is_missing(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.parquet").touch()
    assert layout(tmp_path) == layout(tmp_path / "a.parquet") == "hugging_face"
    for factory in (hugging_face, captioned):
        with refused("needs the package datasets: pip install 'rl-jax.datasets.'"):
            factory(tmp_path)
    assert usual_side(tmp_path) is None


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The package, whose cache is a folder of its own, and which reaches no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        found = pytest.importorskip("datasets")
        patch.setattr(found.config, "HF_DATASETS_CACHE", os.environ["HF_HOME"])
        found.disable_progress_bars()

        def refuse(*_):
            raise AssertionError("the network was asked for")

        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield found


def png(value, *, size=(12, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(file, "PNG")
    return file.getvalue()


def rows(values):
    return {
        "photo": [{"bytes": png(value), "path": None} for value in values],
        "label": [value % 2 for value in values],
        "text": [f"the grey of {value}" for value in values],
    }


def dataset(library, columns, **features):
    usual = {
        "photo": library.Image(),
        "label": library.ClassLabel(names=["even", "odd"]),
        "text": library.Value("string"),
    }
    kinds = {name: (usual | features)[name] for name in columns}
    return library.Dataset.from_dict(columns, features=library.Features(kinds))


def values(source):
    return [int(source.load(i)[0, 0, 0]) for i in range(source.size)]


def saved(library, path, **parts):
    found = {name: dataset(library, rows(part)) for name, part in parts.items()}
    library.DatasetDict(found).save_to_disk(path)
    return path


def parquet(library, path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(library, rows(values)).to_parquet(path)
    return path


def check(source):
    assert (source.size, source.held_out.size) == (5, 2)
    assert source.image_shape == (4, 4, 3)
    assert values(source) == [0, 1, 2, 3, 4]
    assert values(source.held_out) == [8, 9]
    np.testing.assert_array_equal(source.labels, [0, 1, 0, 1, 0])
    assert source.labels.dtype == np.int32
    assert source.class_names == source.held_out.class_names == ("even", "odd")
    assert values(pickle.loads(pickle.dumps(source))) == values(source)


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_of_save_to_disk(tmp_path, library, held_out):
    parts = {"train": range(5), held_out: [8, 9], "unsupervised": [7]}
    path = saved(library, tmp_path / "name", **parts)
    assert layout(path) == "hugging_face"
    assert usual_side(path) == 10
    source = hugging_face(path, size=4)
    check(source)
    assert source.name == "name"
    assert layout(path / "train") == "hugging_face"
    assert values(hugging_face(path / "train", size=4)) == [0, 1, 2, 3, 4]


def test_parquet(tmp_path, library):
    parquet(library, tmp_path / "data" / "train-00000-of-00002.parquet", range(3))
    parquet(library, tmp_path / "data" / "train-00001-of-00002.parquet", [3, 4])
    parquet(library, tmp_path / "data" / "validation-00000-of-00001.parquet", [8, 9])
    assert layout(tmp_path) == "hugging_face"
    check(hugging_face(tmp_path, size=4))
    alone = tmp_path / "data" / "train-00001-of-00002.parquet"
    assert values(hugging_face(alone, size=4)) == [3, 4]
    before = fingerprint(hugging_face(alone, size=4))
    os.utime(alone)
    assert fingerprint(hugging_face(alone, size=4)) == before
    parquet(library, alone, [5, 6, 7])
    assert values(hugging_face(alone, size=4)) == [5, 6, 7]
    assert fingerprint(hugging_face(alone, size=4)) != before


def test_a_stream_is_that_of_a_folder_with_the_same_images(tmp_path, library):
    path = saved(library, tmp_path / "saved", train=range(20))
    for value in range(20):
        (tmp_path / f"{value:02}.png").write_bytes(png(value))
    found = []
    for source in (hugging_face(path, size=8), folder(tmp_path, size=8)):
        with stream(source, seed=1, batch_size=6, num_steps=4) as batches:
            found.append([(batch["index"], batch["image"]) for batch in batches])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_captions(tmp_path, library, caplog):
    columns = rows(range(5))
    columns["text"] = [["of 0", "zero"], [], ["of 2", " ", None], None, ["of 4"]]
    texts = library.Sequence(library.Value("string"))
    found = dataset(library, columns, text=texts)
    found.save_to_disk(tmp_path)
    assert has_captions(tmp_path)
    source = captioned(tmp_path, size=4, held_out=0.0)
    assert values(source) == [0, 2, 4]
    np.testing.assert_array_equal(source.labels, [0, 0, 0])
    assert source.prompts.shape == (2, 3, 32)
    tokenizer = pieces(source.vocabulary)
    said = [[tokenizer.decode(row) for row in both] for both in source.fields["tokens"]]
    assert said == [["of 0", "zero"], ["of 2", "of 2"], ["of 4", "of 4"]]
    assert "left out 2 of 5 images without a caption" in caplog.text


def test_captions_of_given_parts(tmp_path, library, refused):
    path = saved(library, tmp_path, train=range(5), test=[8, 9])
    source = captioned(path, size=4)
    tokenizer = pieces(source.vocabulary)
    for part in (source, source.held_out):
        for value, row in zip(values(part), part.fields["tokens"], strict=True):
            assert tokenizer.decode(row) == f"the grey of {value}"
    assert source.held_out.size == 2
    divided = captioned(path / "train", size=4, held_out=0.4)
    assert (divided.size, divided.held_out.size) == (3, 2)
    assert sorted(values(divided) + values(divided.held_out)) == [0, 1, 2, 3, 4]
    assert captioned(path, size=4, caption_column="text").digest() == source.digest()
    with refused("caption_column='label' is no column of that kind; there are text"):
        captioned(path, size=4, caption_column="label")


def test_columns(tmp_path, library, refused, caplog):
    classes = library.ClassLabel(names=["a", "b"])
    one, two = ([{"bytes": png(value), "path": None}] * 2 for value in (1, 2))
    columns = {"left": one, "right": two, "fine": [0, 1], "coarse": [1, 1]}
    images = {"left": library.Image(), "right": library.Image()}
    found = dataset(library, columns, fine=classes, coarse=classes, **images)
    found.save_to_disk(tmp_path / "a")
    with refused("several columns of images, left, right; name one as image_column"):
        hugging_face(tmp_path / "a")
    source = hugging_face(tmp_path / "a", size=4, image_column="right")
    assert values(source) == [2, 2]
    assert source.labels is None
    assert "several columns are of classes, fine, coarse; name one" in caplog.text
    chosen = {"image_column": "left", "label_column": "coarse"}
    source = hugging_face(tmp_path / "a", size=4, **chosen)
    np.testing.assert_array_equal(source.labels, [1, 1])
    with refused("image_column='fine' is no column .*; there are left, right"):
        hugging_face(tmp_path / "a", image_column="fine")
    with refused("label_column='left' is no column .*; there are fine, coarse"):
        hugging_face(tmp_path / "a", image_column="left", label_column="left")
    with refused("captioned: several columns of images"):
        captioned(tmp_path / "a")

    integers = library.Value("int64")
    columns = {"photo": two, "label": [3, None]}
    dataset(library, columns, label=integers).save_to_disk(tmp_path / "b")
    source = hugging_face(tmp_path / "b", size=4)
    np.testing.assert_array_equal(source.labels, [3, -1])
    assert source.class_names == ("0", "1", "2", "3")
    assert not has_captions(tmp_path / "b")
    with refused("no column of captions .*, there are photo .image., label .integer."):
        captioned(tmp_path / "b")

    columns = {"jpg": [png(5), png(6)], "other": [b"", b""]}
    kinds = {"jpg": library.Value("binary"), "other": library.Value("binary")}
    dataset(library, columns, **kinds).save_to_disk(tmp_path / "c")
    assert values(hugging_face(tmp_path / "c", size=4)) == [5, 6]
    columns = {"other": [b""], "text": ["a"]}
    dataset(library, columns, **kinds).save_to_disk(tmp_path / "d")
    with refused("no column of images, there are other .bytes., text .text."):
        hugging_face(tmp_path / "d")


@pytest.mark.fault
def test_an_undecodable_image_is_replaced_by_the_next(tmp_path, library):
    columns = rows(range(5))
    columns["photo"][1]["bytes"] = b"no image"
    columns["photo"][3] = None
    columns["photo"][4] = {"bytes": None, "path": "gone.png"}
    columns["photo"][0] = {"bytes": None, "path": "there.png"}
    (tmp_path / "there.png").write_bytes(png(5))
    arrow = importlib.import_module("pyarrow")
    # Of another program, which does not say that the column is of images.
    importlib.import_module("pyarrow.parquet").write_table(
        arrow.table({name: columns[name] for name in ("photo", "label")}),
        tmp_path / "a.parquet",
    )
    source = hugging_face(tmp_path / "a.parquet", size=4, max_bad=1.0)
    assert values(source) == [5, 2, 2, 5, 5]
    np.testing.assert_array_equal(labels_at(source, np.arange(5)), [0, -1, 0, -1, -1])
    assert source.problems()["names"] == ("row 1", "row 3", "row 4")


@pytest.mark.fault
def test_what_cannot_be_read(tmp_path, library, refused):
    with refused("hugging_face: no such file or directory"):
        hugging_face(tmp_path / "none")
    with refused("hugging_face: no dataset of save_to_disk or Parquet in"):
        hugging_face(tmp_path)
    (tmp_path / "a.txt").touch()
    with refused("a.txt' is no .parquet file, nor a directory of save_to_disk"):
        hugging_face(tmp_path / "a.txt")
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    with refused("hugging_face: '.*a.parquet' cannot be read: ArrowInvalid: "):
        hugging_face(tmp_path)
    parquet(library, tmp_path / "c" / "train.parquet", [1])
    parquet(library, tmp_path / "c" / "test.parquet", [])
    with refused("test.parquet' cannot be read: |has no rows"):
        hugging_face(tmp_path / "c")
    path = saved(library, tmp_path / "b", one=[1], two=[2])
    with refused("has the parts one, two, expected train; give the directory of one"):
        hugging_face(path)
    for file in (path / "one").glob("*.arrow"):
        file.unlink()
    with refused("one' cannot be read: FileNotFoundError"):
        hugging_face(path / "one")
    (path / "dataset_dict.json").write_text("{}")
    with refused("dataset_dict.json' cannot be read: KeyError: 'splits'"):
        hugging_face(path)

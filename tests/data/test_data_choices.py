"""What is said of a path that holds more than is read."""

import json

import pytest

from rl_jax.data import choices, layout


def holds(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_nothing_where_nothing_was_chosen(tmp_path):
    assert choices(holds(tmp_path / "photos", "a/1.png", "b/2.jpg")) == []
    assert choices(holds(tmp_path / "tars", "0.tar", "1.tar")) == []
    assert choices(tmp_path / "tars" / "0.tar") == []
    assert choices(tmp_path / "tars" / "{0..1}.tar") == []
    assert choices(holds(tmp_path / "table", "data/0.parquet")) == []
    assert choices(tmp_path / "table" / "data" / "0.parquet") == []
    assert choices(holds(tmp_path / "file", "x.npz") / "x.npz") == []
    assert choices(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("names", "kind", "line"),
    [
        (
            ["1.png", "2.png", "x.tar"],
            "folder",
            "d is read as a folder of images; left out: 1 tar (move what you mean to a "
            "folder of its own)",
        ),
        (
            ["1.png", "2.png", "3.png", "x.tar", "y.tar.gz", "train/0.parquet"],
            "folder",
            "d is read as a folder of images; left out: 2 tars, 1 file of Parquet (move"
            " what you mean to a folder of its own)",
        ),
        (
            ["preview.png", "0.tar", "1.tar"],
            "shards",
            "d is read as tar shards; left out: 1 image (move what you mean to a folder"
            " of its own)",
        ),
        (
            ["1.png", "2.png", "data/0.parquet", "data/1.parquet"],
            "hugging_face",
            "d is read as a dataset in Parquet; left out: 2 images (move what you mean "
            "to a folder of its own)",
        ),
    ],
)
def test_kinds_of_files_side_by_side(names, kind, line, tmp_path):
    folder = holds(tmp_path / "d", *names)
    assert layout(folder) == kind
    assert choices(folder) == [line]


def saved(folder, *parts):
    """As `save_to_disk` writes it, as far as names tell."""
    for part in parts:
        holds(folder, f"{part}/dataset_info.json", f"{part}/state.json")
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": parts}))
    return folder


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        (["train"], []),
        (["test"], ["d: test is learned from, its only part"]),
        (
            ["train", "test"],
            ["d: of its parts train is learned from, test held out"],
        ),
        (
            ["test", "extra", "train", "validation"],
            [
                "d: of its parts train is learned from, validation held out; test, "
                "extra not read"
            ],
        ),
        (["train", "extra"], ["d: of its parts train is learned from; extra not read"]),
        (["a", "b"], []),  # refused when it is opened
    ],
)
def test_parts_of_a_dataset_of_hugging_face(parts, lines, tmp_path):
    assert choices(saved(tmp_path / "d", *parts)) == lines


def test_one_part_of_such_a_dataset_is_no_choice(tmp_path):
    assert choices(saved(tmp_path / "d", "train", "test") / "test") == []


def test_parts_of_parquet(tmp_path):
    names = [f"data/{part}-00000-of-00001.parquet" for part in ("train", "test")]
    folder = holds(tmp_path / "d", *names, "data/validation-00000-of-00001.parquet")
    assert choices(folder) == [
        "d: of its parts train is learned from, val held out; test not read"
    ]
    only = holds(tmp_path / "only", "data/test-00000-of-00001.parquet")
    assert choices(only) == ["only: test is learned from, its only part"]
    mixed = holds(tmp_path / "mixed", "test-0.parquet", "more.parquet")
    assert choices(mixed) == []


def test_parts_of_tars(tmp_path):
    folder = holds(tmp_path / "d", "train-0.tar", "train-1.tar", "val-0.tar")
    assert choices(folder) == ["d: of its parts train is learned from, val held out"]
    holds(folder, "test-0.tar")
    assert choices(folder) == [
        "d: of its parts train is learned from, val held out; test not read"
    ]
    only = holds(tmp_path / "only", "test-0.tar")
    assert choices(only) == ["only: test is learned from, its only part"]
    assert choices(holds(tmp_path / "no parts", "0.tar", "1.tar")) == []
    assert choices(only / "test-0.tar") == []


def test_a_part_of_a_folder_that_is_not_read(tmp_path):
    folder = holds(tmp_path / "d", "train/1.png", "val/1.png")
    assert choices(folder) == []
    holds(folder, "test/1.png")
    assert choices(folder) == [
        "d: of its parts train is learned from, val held out; test not read"
    ]


def test_a_name_cannot_move_the_cursor(tmp_path):
    folder = holds(tmp_path / "d\x1b[2J", "1.png", "2.png", "x.tar")
    (line,) = choices(folder)
    assert "\x1b" not in line

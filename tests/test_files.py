"""Files that are whole or not there."""

import pytest

from rl_jax import files


def test_the_new_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("old", "new é\n"):
        files.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_until_the_end_the_old_is_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_full_disk_leaves_the_old_and_no_draft(tmp_path, small_disk):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with small_disk(), pytest.raises(OSError, match="File too large") as error:
        files.write_text(path, "n" * 10_000)
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_within_leaves_the_old_and_no_draft(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def torn():
        with files.replacing(path) as file:
            file.write(b"new")
            raise ValueError("within")

    with pytest.raises(ValueError, match="within"):
        torn()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_its_draft(tmp_path):
    path = tmp_path / "nowhere" / "a.txt"
    with pytest.raises(FileNotFoundError) as error:
        files.write_text(path, "new")
    assert error.value.filename == str(path)

"""The benchmark of the experiments; the command itself is replaced."""

import json

import pytest

from profiling import experiments


def document(factor):
    """Two experiments of which the second does not pass."""
    return {
        "experiments": [
            {
                "name": name,
                "passed": name == "first",
                "seconds": factor * seconds,
                "seconds_importing": 0.5,
                "seconds_drawing": 0.25,
                "other": "is not kept",
            }
            for name, seconds in (("first", 2.0), ("second", 4.0))
        ]
    }


def test_result(tmp_path, capsys, monkeypatch):
    folders = []

    def ran(names, folder, jobs):
        assert jobs == 2
        assert names == ["first", "second"]
        folders.append(folder)
        return document(10 if folders.count(folder) == 1 else 1), 100.0

    monkeypatch.setattr(experiments, "ran", ran)
    out = ["--rounds", "2", "--jobs", "2", "--out", str(tmp_path)]
    experiments.main(["first", "second", *out])
    assert folders[0] == folders[1] != folders[2] == folders[3]
    result = json.loads((tmp_path / "experiments.json").read_text())
    assert len(result["rows"]) == 12
    assert result["rows"][0] == {
        "round": 0,
        "state": "cold",
        "name": "first",
        "passed": True,
        "seconds": 20.0,
        "seconds_importing": 0.5,
        "seconds_drawing": 0.25,
    }
    assert result["rows"][2] == {
        "round": 0, "state": "cold", "name": "", "wall": 100.0,
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "| first   | 20.0 |  2.0 |" in said
    assert "| all experiments |  60.0 |   6.0 |" in said
    assert "| imports         |   1.0 |   1.0 |" in said
    assert "| figures         |   0.5 |   0.5 |" in said
    assert "| the command     | 100.0 | 100.0 |" in said
    assert "At most 150 s cold: met, 100.0 s. At most 60 s warm: missed, " in said
    assert "2 at a time." in said
    assert said.count("`second` did not pass.") == 1
    assert (tmp_path / "experiments.png").exists()


def test_what_the_command_refuses_ends_it(tmp_path, capfd):
    with pytest.raises(SystemExit) as stopped:
        experiments.main(["circel", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "there is no 'circel'" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    found, wall = experiments.ran(["linear_autoencoder"], tmp_path)
    (only,) = found["experiments"]
    assert only["passed"]
    assert wall > only["seconds"]
    assert any((tmp_path / "xla").iterdir())

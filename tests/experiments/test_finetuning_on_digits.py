"""The table of fine-tuning: the one the README shows, made by its script."""

import json
import pathlib

import pytest

from experiments import finetuning_on_digits as table

README = pathlib.Path(__file__).parents[2] / "README.md"


def written(ending):
    return (table.RESULTS / f"{table.NAME}.{ending}").read_text()


def test_readme_shows_what_the_script_wrote():
    text = written("md")
    assert table.page(json.loads(written("json")), 3) == text
    assert text.strip() in README.read_text()


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_with_one_label_of_each_class_a_trained_start_wins(method):
    found = json.loads(written("json"))
    gains = [
        found[f"1% {method} tuned {k}"] - found[f"1% {method} from scratch {k}"]
        for k in range(3)
    ]
    assert min(gains) > 0


@pytest.mark.slow
def test_a_small_one(tmp_path, monkeypatch, capsys):
    small = ("--encoder", "mlp", "--encoder.features", "8", "--steps", "2")
    start = table.Start(("simclr", *small), ("--steps", "2"), ())
    monkeypatch.setattr(table, "STARTS", {"simclr": start})
    monkeypatch.setattr(table, "LABELS", ("1%",))
    monkeypatch.setattr(table, "enable_compilation_cache", lambda: None)
    table.main(["--seeds", "1", "--out", str(tmp_path)])
    assert capsys.readouterr().out.endswith(
        (tmp_path / f"{table.NAME}.md").read_text() + "\n"
    )
    found = json.loads((tmp_path / f"{table.NAME}.json").read_text())
    assert found["1% images"] == 10
    assert {key for key in found if key.endswith(" 0")} == {
        f"1% simclr {column} 0" for column in table.COLUMNS
    }

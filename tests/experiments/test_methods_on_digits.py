"""The table of all methods: complete, resumable, and the one the README shows."""

import json
import pathlib
import re

import pytest

from experiments import methods_on_digits as table
from rl_jax import methods

README = pathlib.Path(__file__).parents[2] / "README.md"
WITHOUT_DIGITS = {"bert", "simcse", "ivae", "with_probe"}


def test_every_method_has_a_row():
    assert {row.method for row in table.ROWS} == set(methods.__all__) - WITHOUT_DIGITS


def test_readme_shows_what_the_script_wrote():
    written = (table.RESULTS / f"{table.NAME}.md").read_text()
    assert written.strip() in README.read_text()


def test_page_is_made_from_the_results():
    found = json.loads((table.RESULTS / f"{table.NAME}.json").read_text())
    assert table.page(found, 3) == (table.RESULTS / f"{table.NAME}.md").read_text()


def test_every_encoder_stands_there_untrained_too():
    """Of the same width and with the same mark as the methods that train it."""
    text = (table.RESULTS / f"{table.NAME}.md").read_text()
    widths = re.findall(r"^\| untrained (\[\d+\](?: \(\d\))?) ", text, re.MULTILINE)
    trained = re.findall(r"^\| `\w+` (\[\d+\](?: \(\d\))?) ", text, re.MULTILINE)
    assert len(widths) == len(set(widths)) > 5
    assert set(widths) == set(trained)


@pytest.mark.parametrize(
    ("method", "network"), [("dino", "teacher"), ("i_jepa", "target"), ("byol", None)]
)
def test_a_row_knows_which_network_it_measured(method, network):
    """So that one of the other network is not taken for it."""
    (row,) = (row for row in table.ROWS if row.method == method)
    asked = table._ask(row, 0)
    assert table._settings(asked).get("network") == network


@pytest.fixture
def small(monkeypatch):
    """Two methods, two steps, one draw of labels."""
    small = ("--encoder", "mlp", "--encoder.features", "8")
    rows = [
        row._replace(steps=2, encoder=small)
        for row in table.ROWS
        if row.method in ("supervised", "vae")
    ]
    monkeypatch.setattr(table, "ROWS", tuple(rows))
    monkeypatch.setattr(table, "DRAWS", 1)
    monkeypatch.setattr(table, "enable_compilation_cache", lambda: None)


@pytest.mark.slow
def test_goes_on_where_it_stopped(small, monkeypatch, tmp_path, capsys):
    where = ["--out", str(tmp_path), "--seeds", "1"]
    table.main([*where, "--only", "vae"])
    first = json.loads((tmp_path / f"{table.NAME}.json").read_text())
    assert {"vae 0", "raw pixels 0", "PCA 0", "untrained 0"} == set(first)
    assert "supervised" not in capsys.readouterr().out

    trained = []
    train = table._train

    def count(asked):
        trained.append(asked.recipe.method.factory)
        return train(asked)

    monkeypatch.setattr(table, "_train", count)
    table.main(where)
    assert trained == ["supervised"]
    second = json.loads((tmp_path / f"{table.NAME}.json").read_text())
    assert second["vae 0"] == first["vae 0"]
    assert "| `supervised` [" in capsys.readouterr().out

    # Another encoder is measured untrained as well, and the first is not again.
    narrow = ("--encoder", "mlp", "--encoder.out", "16")
    other = table.ROWS[1]._replace(encoder=narrow, note="narrow")
    monkeypatch.setattr(table, "ROWS", (table.ROWS[0], other))
    table.main([*where, "--only", "vae"])
    third = json.loads((tmp_path / f"{table.NAME}.json").read_text())
    assert third["untrained 0"] == second["untrained 0"]
    assert third["untrained vae 0"]["dim"] != third["untrained 0"]["dim"]
    assert "| untrained [" in capsys.readouterr().out
    assert trained.pop() == "vae"

    longer = [row._replace(steps=3) for row in table.ROWS]
    monkeypatch.setattr(table, "ROWS", tuple(longer))
    table.main([*where, "--only", "vae"])
    assert trained == ["supervised", "vae"]  # other settings are another run

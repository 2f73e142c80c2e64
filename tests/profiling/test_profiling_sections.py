"""The benchmark of a whole evaluation; evaluation itself is replaced."""

import json

from profiling import sections


def test_result(tmp_path, capsys, monkeypatch):
    def evaluate_run(folder, *, skip, say):
        assert (folder, skip) == (tmp_path, ["attacks"])
        for line in ("evaluating the checkpoint", "  table: k-NN", "  cka: layers"):
            say(line)

    monkeypatch.setattr(sections.evaluation, "evaluate_run", evaluate_run)
    arguments = [str(tmp_path), "--rounds", "2", "--out", str(tmp_path)]
    sections.main([*arguments, "--skip", "attacks"])
    result = json.loads((tmp_path / "sections.json").read_text())
    names = ["loading", "evaluating", "table", "cka"]
    assert [row["section"] for row in result["rows"]] == 3 * names
    assert all(row["seconds"] >= 0 for row in result["rows"])
    said = capsys.readouterr().out
    assert "| table " in said
    assert "At most 60 s apart from compilation: met" in said
    assert (tmp_path / "sections.png").exists()

"""The diagnostics benchmark: its contenders and its JSON. No timing is asserted."""

import json

from profiling import diagnostics


def test_result(tmp_path, capsys):
    arguments = ["--only", "tiny", "--rounds", "3", "--budget", "1"]
    diagnostics.main([*arguments, "--out", str(tmp_path)])
    result = json.loads((tmp_path / "diagnostics.json").read_text())
    assert [row["contender"] for row in result["rows"]] == ["without", "with", "alone"]
    assert all(len(row["seconds"]) == 3 for row in result["rows"])
    assert "| tiny" in capsys.readouterr().out
    assert (tmp_path / "diagnostics.png").exists()

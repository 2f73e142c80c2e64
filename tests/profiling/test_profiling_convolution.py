"""The benchmark of convolutions: its contenders and its JSON. No timing is asserted."""

import json

from profiling import convolution


def test_result(tmp_path, capsys):
    arguments = ["--tiny", "--rounds", "3", "--budget", "1"]
    convolution.main([*arguments, "--out", str(tmp_path)])
    result = json.loads((tmp_path / "convolution.json").read_text())
    assert [row["contender"] for row in result["rows"]] == ["XLA", "product"]
    assert all(len(row["seconds"]) == 3 for row in result["rows"])
    assert "| 4×4×2 to 3, stride 2 " in capsys.readouterr().out
    assert (tmp_path / "convolution.png").exists()

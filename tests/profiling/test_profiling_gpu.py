"""The GPU benchmark runs to its end on CPU, and keeps what it has when cut off."""

import json

import pytest

from profiling import gpu, results


def bench(tmp_path, budget):
    result = {"benchmark": "gpu", "rows": [], "skipped": []}
    return gpu.Bench(result, tmp_path, budget)


def test_a_failure_is_named_and_the_rest_goes_on(tmp_path):
    cut = bench(tmp_path, budget=100)

    def fails():
        raise MemoryError("no\nroom")

    cut.attempt("first", fails)
    cut.attempt("second", lambda: cut.result["rows"].append({"x": 1}))
    saved = json.loads((tmp_path / "gpu.json").read_text())
    assert saved["skipped"] == [{"what": "first", "reason": "MemoryError: no room"}]
    assert saved["rows"] == [{"x": 1}]


def test_what_the_budget_does_not_allow_is_skipped(tmp_path):
    cut = bench(tmp_path, budget=10)
    cut.attempt("long", lambda: pytest.fail("must not run"), needs=20)
    (skipped,) = cut.result["skipped"]
    assert skipped["what"] == "long"
    assert skipped["reason"].startswith("needs about 20 s, ")


def test_rows_of_some_widths_alone(tmp_path, monkeypatch, capsys):
    tasks = [gpu.Task(gpu.NT_XENT, 32, dim) for dim in (8, 16, 24)]
    monkeypatch.setattr(gpu, "TINY", {"small": tasks, "large": tasks[:1]})
    measured = []
    monkeypatch.setattr(
        gpu, "measure", lambda bench, torch, sizes, **_: measured.append(sizes)
    )
    options = ["--tiny", "--no-torch", "--out", str(tmp_path)]
    gpu.main([*options, "--dim", "24", "16"])
    gpu.main(options)
    assert measured == [
        {"small": tasks[1:], "large": []},
        {"small": tasks, "large": tasks[:1]},
    ]
    with pytest.raises(SystemExit) as stopped:
        gpu.main([*options, "--dim", "8", "7"])
    assert stopped.value.code == 2
    error = "--dim: expected some of [8, 16, 24], got [8, 7]"
    assert error in capsys.readouterr().err


def test_a_run_that_was_cut_off_early_has_a_page_and_a_plot(tmp_path):
    result = results.new("gpu") | {"skipped": [], "training": [], "ceilings": []}
    path = results.save(result, tmp_path)
    assert "# One GPU" in results.render(path)
    assert path.with_suffix(".png").exists()


@pytest.mark.slow
def test_tiny(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.delenv("RL_JAX_TORCH_PYTHON", raising=False)
    gpu.main(["--tiny", "--budget", "240"])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["skipped"] == []
    assert {r["what"] for r in result["ceilings"]} == {
        "product",
        "exp2",
        "copy",
        "launch",
    }
    assert {r["rows"] for r in result["rows"]} == {32, 64, 128, 256}
    assert all(r["seconds"] for r in result["rows"])
    assert [r["name"] for r in result["training"]] == ["resnet18", "vit_s16"]
    assert results.render(tmp_path / "gpu.json") in capsys.readouterr().out

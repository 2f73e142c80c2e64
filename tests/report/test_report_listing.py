"""`rl-jax runs`: a row for every run, whatever its folder holds."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from rl_jax.cli import main
from rl_jax.report import listing
from rl_jax.run.lock import locked


def saved(folder, *steps):
    for step in steps:
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    return folder


def only(folder):
    (row,) = listing.runs(folder)
    return row


def test_one_that_is_done_and_evaluated(runs):
    row = only(saved(runs("first"), 50, 100).parent)
    assert row[:7] == ("first", str(runs.root / "first"), "simclr", "digits", 100, 100,
                       "done")  # fmt: skip
    assert (row.labels, row.probe, row.knn) == ("all", 0.96, 0.95)
    assert row.reason is None
    written = [path.stat().st_mtime for path in (runs.root / "first").iterdir()]
    assert min(written) <= row.time <= max(written)


def test_one_that_was_stopped_goes_on_from_its_newest_checkpoint(runs):
    folder = saved(runs("first", evaluation=runs.evaluation(step=50)), 9, 50)
    for name in ("100.corrupt", "100.orbax-checkpoint-tmp-7", "x"):
        (folder / "checkpoints" / name).mkdir()
    row = only(folder)
    assert (row.name, row.status, row.step) == ("first", "stopped", 50)
    assert row.evaluated == 50


def test_one_that_runs_is_where_it_has_logged(runs):
    folder = saved(runs("first", metrics=runs.rows()[:4], evaluation=None), 10)
    with locked(folder):
        row = only(folder)
        assert (row.status, row.step) == ("running", 40)
    assert only(folder).status == "stopped"


def test_to_be_listed_takes_no_lock_away(runs):
    folder = saved(runs("first"), 10)
    (folder / "run.lock").write_text("process 1 on a host, killed")
    assert only(folder).status == "stopped"
    assert (folder / "run.lock").read_text() == "process 1 on a host, killed"
    with locked(folder, say=lambda line: None):
        assert only(folder).status == "running"


def test_one_without_a_checkpoint(runs):
    row = only(runs("first", evaluation=None))
    assert (row.status, row.step, row.probe) == ("nothing saved", None, None)


@pytest.mark.parametrize(
    ("policy", "lost", "at", "status"),
    [
        ("halt", 47, 50, "not finite"),
        ("halt", 47, 60, "stopped"),  # went on since, with other numbers
        ("halt", None, 50, "stopped"),
        ("skip", 47, 50, "stopped"),
    ],
)
def test_one_that_a_nan_has_ended(policy, lost, at, status, runs):
    folder = saved(runs("first", evaluation=None), at)
    content = json.loads((folder / "run.json").read_text())
    content["recipe"] |= {"on_nonfinite": policy, "log_every": 10}
    (folder / "run.json").write_text(json.dumps(content))
    if lost:
        (folder / f"nonfinite-{lost}.npz").touch()
    assert only(folder).status == status


def test_so_many_in_a_row_that_they_could_not_be_skipped(runs):
    rows = runs.rows()[:5]
    rows[-1]["nonfinite"] = 8.0
    folder = saved(runs("first", metrics=rows, evaluation=None), 50)
    content = json.loads((folder / "run.json").read_text())
    content["recipe"] |= {"on_nonfinite": "skip", "log_every": 10}
    content["recipe"] |= {"nonfinite_limit": 8}
    (folder / "run.json").write_text(json.dumps(content))
    assert only(folder).status == "not finite"
    rows[-1]["nonfinite"] = 7.0
    folder.joinpath("metrics.jsonl").write_text(json.dumps(rows[-1]))
    assert only(folder).status == "stopped"


def broken(folder, name, content):
    if content is None:
        (folder / name).unlink()
    elif content == "pipe":
        (folder / name).unlink()
        os.mkfifo(folder / name)
    elif content == "folder":
        (folder / name).unlink()
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no run.json"),
        ("pipe", "run.json is no file"),
        ("folder", "run.json is no file"),
        (b"", "is not JSON"),
        (b"{" * 100_000, "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "holds no JSON object"),
        (b"{}", "run.json holds no recipe"),
        (b'{"recipe": 3}', "run.json holds no recipe"),
        (b'{"format": 99, "recipe": {}}', "use a newer rl_jax"),
        (b'{"format": "\x1b[31m"}', r"is not JSON"),
    ],
)
def test_a_broken_one_is_a_row_among_others(content, said, runs, capsys):
    saved(runs("whole"), 100)
    broken(runs("worse"), "run.json", content)
    rows = {row.name: row for row in listing.runs(runs.root)}
    assert rows["worse"].status == "unreadable"
    assert said in rows["worse"].reason
    assert rows["whole"].status == "done"
    main(["runs", str(runs.root)])
    printed = capsys.readouterr().out
    assert said in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": 3, "data": [], "steps": "many"},
        {"method": {"factory": {}}, "data": {"factory": None, "arguments": 3}},
        {"method": {"factory": "os:system"}, "steps": 1e300, "log_every": -1},
        {"method": {"factory": "\x1b[2J" + "x" * 10_000}, "steps": 10**400},
    ],
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluation.json", "checkpoints"])
def test_nothing_in_a_folder_ends_the_list(recipe, name, runs, capsys):
    folder = saved(runs("odd"), 10)
    (folder / "run.json").write_text(json.dumps({"format": 2, "recipe": recipe}))
    if name == "checkpoints":
        shutil.rmtree(folder / name)
        (folder / name).write_text("a file")
    else:
        (folder / name).write_bytes(b'\xff{"step": 1e999}\n[3]\n{"step": {}}\n')
    main(["runs", str(runs.root)])
    table = capsys.readouterr().out
    assert "odd" in table
    assert max(map(len, table.splitlines())) < 400
    assert "\x1b" not in table
    main(["runs", str(runs.root), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["name"] == "odd"


def test_an_evaluation_that_cannot_be_read_leaves_the_rest(runs):
    folder = saved(runs("first"), 100)
    (folder / "evaluation.json").write_text('{"table": []}')
    row = only(folder)
    assert (row.status, row.probe) == ("done", None)
    assert "evaluation.json cannot be read" in row.reason


def test_deeper_ones_links_and_what_is_no_run(runs):
    (runs.root / "runs").mkdir()
    for name in ("runs/a", "runs/sweep/b", "runs/sweep/rate/c", "runs/.hidden/d"):
        runs(name)
    (runs.root / "runs/notes").mkdir()
    (runs.root / "runs/notes/text.md").write_text("no run")
    (runs.root / "runs/again").symlink_to(runs.root / "runs/sweep")
    (runs.root / "runs/sweep/up").symlink_to(runs.root / "runs")
    (runs.root / "runs/nowhere").symlink_to(runs.root / "gone")
    names = {row.name for row in listing.runs(runs.root / "runs")}
    assert names == {"a", "again/b", "again/rate/c"}
    assert only(runs.root / "runs/a").name == "a"


def test_the_table_has_the_newest_last_and_says_what_scores_are_of(runs, capsys):
    for k, name in enumerate(("new", "old")):
        folder = saved(runs(name, evaluation=runs.evaluation(step=50 * (k + 1))), 100)
        for path in [*folder.iterdir(), folder]:
            os.utime(path, (2e9 - 1e6 * k, 2e9 - 1e6 * k))
    main(["runs", str(runs.root)])
    head, _, old, new = capsys.readouterr().out.splitlines()
    assert head.split() == [*("run", "method", "data", "step", "status", "probe"),
                            *("k-NN", "written")]  # fmt: skip
    assert old.split()[:7] == [*("old", "simclr", "digits", "100/100", "done"),
                               *("0.960", "0.950")]  # fmt: skip
    assert "0.960 at 50" in new


def test_no_runs_and_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["runs", "."])
    assert capsys.readouterr().out == "no run in .; rl-jax pretrain makes one\n"
    main(["runs", ".", "--json"])
    assert json.loads(capsys.readouterr().out) == []
    (tmp_path / "file").touch()
    for words, said in (
        ([], "runs: runs does not exist; expected a folder with runs"),
        (["file"], "runs: file is a file; expected a folder with runs"),
        (["."] * 2, "see rl-jax runs --help"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["runs", *words])
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_jax_is_not_waited_for_and_nothing_named_there_is_imported(runs, tmp_path):
    saved(runs("first"), 100)
    content = {"format": 2, "recipe": {"method": {"factory": "theirs:method"}}}
    (runs("second") / "run.json").write_text(json.dumps(content))
    (tmp_path / "theirs.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys; from rl_jax.cli import main; main(['runs', sys.argv[1]]); "
        "print('jax' in sys.modules or 'theirs' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(runs.root)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert found.stdout.splitlines()[-1] == "False"
    assert "theirs:method" in found.stdout


def test_only_the_end_of_long_metrics_is_read(runs, monkeypatch):
    folder = saved(runs("first", evaluation=None), 10)
    path = folder / "metrics.jsonl"
    rows = [json.dumps({"step": k, "loss": 1.0}) for k in range(100_000)]
    path.write_text("\n".join([*rows, '{"step": 7, "lo']))
    with locked(folder):
        assert only(folder).step == 99_999
    path.write_bytes(np.random.default_rng(0).bytes(10**6))
    with locked(folder):
        assert only(folder).step is None

"""Runs that earlier versions wrote load for ever.

`saved/` has one of each format, two steps of a small MoCo on the digits; a new format
adds a folder and changes none.
"""

import json
import pathlib
import shutil

import pytest

from rl_jax import train
from rl_jax.cli import main
from rl_jax.run import trained

SAVED = pathlib.Path(__file__).parent / "saved"
pytestmark = pytest.mark.core


@pytest.fixture(params=sorted(p.name for p in SAVED.iterdir()))
def run(request, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    return shutil.copytree(SAVED / request.param, tmp_path / "run")


def test_it_loads(run):
    said = []
    found = trained.load(run, say=said.append)
    assert (found.step, said) == (2, [])
    assert found.recipe.method.factory == "moco"
    meta = json.loads((run / "checkpoints" / "2" / "meta" / "metadata").read_text())
    assert train.fingerprint(found.state) == meta["leaves"]
    assert int(found.state.step) == 2


def test_it_goes_on(run, capsys):
    path = run / "run.json"
    content = json.loads(path.read_text())
    content["recipe"]["steps"] = 3
    path.write_text(json.dumps(content))
    main(["resume", str(run), "--no-evaluate", "--allow-changes"])
    printed = capsys.readouterr()
    assert "continuing from the checkpoint of step 2" in printed.out
    assert printed.err == ""
    assert train.Checkpoints(run / "checkpoints").steps() == [2, 3]
    assert [row["step"] for row in train.read_rows(run / "metrics.jsonl")] == [2, 3]

"""A run that diverges: what its folder and its last line say."""

import json

import numpy as np
import pytest

from rl_jax import train
from rl_jax.cli import main
from rl_jax.data import batch_indices
from rl_jax.report import listing

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("no_cache")]
SMALL = [
    *("--steps", "6", "--batch-size", "8", "--no-evaluate", "--no-probe"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
    *("--log-every", "2", "--optimizer", "sgd", "--optimizer.warmup-steps", "0"),
    *("--optimizer.learning-rate", "1e38"),
]


def diverge(tmp_path, capsys, *flags):
    """Exit code, output and last line of a run whose learning rate is absurd."""
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    np.savez(tmp_path / "small.npz", image=images)
    where = ["--data", str(tmp_path / "small.npz"), "--run-dir", str(tmp_path / "run")]
    code = 0
    try:
        main(["pretrain", "simclr", *where, *SMALL, *flags])
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_it_halts(tmp_path, capsys):
    code, out, error = diverge(tmp_path, capsys)
    run = tmp_path / "run"
    assert code == 4
    assert error.count("\n") == 1
    assert "not finite in 1 of the steps 1 to 2, first at 2 in the gradient of" in error
    assert "the ids of its examples are in" in out
    with np.load(run / "nonfinite-2.npz") as kept:
        assert int(kept["step"]) == 2
        expected = batch_indices(0, 1, size=12, batch_size=8)
        np.testing.assert_array_equal(kept["index"], expected)
    assert train.Checkpoints(run / "checkpoints").steps() == [2]
    assert json.loads((run / "run.json").read_text())["recipe"]["on_nonfinite"] == (
        "halt"
    )
    (row,) = listing.runs(tmp_path)
    assert (row.name, row.status, row.step) == ("run", "not finite", 2)


def test_it_skips_until_there_are_too_many(tmp_path, capsys):
    flags = ["--on-nonfinite", "skip", "--nonfinite-limit", "4"]
    code, out, error = diverge(tmp_path, capsys, *flags)
    assert code == 4
    assert "5 in a row with 4 allowed" in error
    assert sorted(p.name for p in (tmp_path / "run").glob("*.npz")) == [
        "nonfinite-2.npz",
        "nonfinite-3.npz",
        "nonfinite-5.npz",
    ]
    rows = train.read_rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["nonfinite"] for row in rows] == [1, 2, 2]


@pytest.mark.slow
def test_it_skips_to_the_end(tmp_path, capsys):
    code, out, error = diverge(tmp_path, capsys, "--on-nonfinite", "skip")
    assert (code, error) == (0, "")
    assert out.count("warning: loss, gradient or update not finite in ") == 3
    assert train.Checkpoints(tmp_path / "run" / "checkpoints").steps() == [6]


def test_a_policy_there_is_not(tmp_path, capsys):
    code, _, error = diverge(tmp_path, capsys, "--nonfinite-limit", "0")
    assert code == 2
    assert "nonfinite_limit must be at least 1, got 0" in error
    assert not (tmp_path / "run").exists()

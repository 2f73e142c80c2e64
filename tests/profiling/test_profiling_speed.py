"""The speed benchmark: references, interleaving, JSON. No timing is asserted."""

import json
import math
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from profiling import contenders, inputs, peers, reference, speed, subject, timing


@pytest.mark.parametrize("loss", ["nt_xent", "clip"])
def test_contenders_agree_with_float64(loss):
    a, b = inputs.pairs(48, 16)
    value, *grads = getattr(reference, loss)(a, b, temperature=0.2)
    made = [getattr(contenders, loss)(0.2), getattr(contenders, f"dense_{loss}")(0.2)]
    if loss == "nt_xent":
        made += [contenders.optax_nt_xent(0.2)]
        made += [contenders.nt_xent(0.2, precision="highest")]
    for function in made:
        found, found_grads = contenders.value_and_grad(function)(
            jnp.asarray(a), jnp.asarray(b)
        )
        assert abs(found - value) < 1e-5
        for f, g in zip(found_grads, grads, strict=True):
            assert reference.relative_error(f, g) < 1e-5


def test_the_reference_is_the_derivative():
    """Central differences of the value, in float64, along one random direction."""
    a, b = (x.astype(np.float64) for x in inputs.pairs(6, 4))
    step = 1e-6 * np.random.default_rng(1).normal(size=a.shape)
    for loss in (reference.nt_xent, reference.clip):
        _, da, _ = loss(a, b, temperature=0.3)
        difference = (
            loss(a + step, b, temperature=0.3)[0]
            - loss(a - step, b, temperature=0.3)[0]
        )
        assert np.vdot(2 * step, da) == pytest.approx(difference, rel=1e-5)


def test_inputs_are_seeded_unit_rows_with_positives():
    a, b = inputs.pairs(500, 32)
    again, _ = inputs.pairs(500, 32)
    np.testing.assert_array_equal(a, again)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
    assert np.mean(np.sum(a * b, axis=1)) == pytest.approx(0.5, abs=0.05)


def test_rounds_are_interleaved_and_the_slow_sit_out():
    order = []

    def contender(name, seconds):
        def run(calls):
            order.append(name)
            return seconds

        return run

    given = {"fast": contender("fast", 0.1), "slow": contender("slow", 4.0)}
    found = timing.interleave(given, seconds=1, rounds=9, pause=0)
    assert len(found["fast"]["seconds"]) == 9
    assert len(found["slow"]["seconds"]) == 3
    assert "".join(name[0] for name in order[-12:]) == "fsfff" + "fsfff" + "fs"
    assert found["fast"]["calls"] == 1


def test_summary():
    found = timing.summary([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found == {"median": 3.0, "min": 1.0, "spread": pytest.approx(2 / 3)}


def test_a_wrong_contender_is_not_timed():
    task = subject.Task("NT-Xent", 64, 8)
    a, b = inputs.pairs(32, 8)
    value, *grads = reference.nt_xent(a, b, temperature=subject.TEMPERATURE)
    for factor, wrong in ((1.0, False), (1.01, True)):
        entry = subject.Entry(
            lambda f=factor: (f * value, grads), run=lambda calls: 0.0
        )
        row, _ = subject.checked(task, "x", entry, (value, grads))
        assert (row["error"] is not None) == wrong


@pytest.mark.slow
def test_result(tmp_path, capsys):
    sizes = ["--views", "64", "--dims", "8", "--pairs", "16"]
    rest = ["--rounds", "3", "--budget", "1", "--out", str(tmp_path)]
    missing = str(tmp_path / "no-python")
    speed.main([*sizes, *rest, "--torch-python", missing])
    result = json.loads((tmp_path / "speed.json").read_text())
    rows = {(r["loss"], r["contender"]): r for r in result["rows"]}
    for loss in ("NT-Xent", "CLIP"):
        for name in ("rl_jax", "rl_jax bf16", "dense JAX"):
            assert len(rows[loss, name]["seconds"]) == 3
            assert all(math.isfinite(s) for s in rows[loss, name]["seconds"])
    assert len(result["ceilings"]) == 2
    assert any(n.startswith("PyTorch was not measured") for n in result["notes"])
    assert (tmp_path / "speed.png").stat().st_size > 5000
    assert (tmp_path / "speed.md").read_text() in capsys.readouterr().out


def test_a_peer_that_does_not_start():
    with pytest.raises(peers.PeerError, match="does not start"):
        peers.TorchPeer("no-such-python")


def test_a_peer_without_torch(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(peers.PeerError, match="ended with exit code 1"):
        peers.TorchPeer(sys.executable)


def test_odd_views_are_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.main(["--views", "63"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

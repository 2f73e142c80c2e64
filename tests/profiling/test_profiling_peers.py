"""PyTorch's process answers in time, or another one takes its place."""

import os
import sys
import textwrap
import threading
import time

import pytest

from profiling import peers, step

WORKER = """
import json, sys, time
ready = set()
for line in sys.stdin:
    request = json.loads(line)
    config = request.get("config", {})
    time.sleep(config.get("sleep", 0))
    reply = {"loss": 1.0, "seconds": 0.5, "torch": "none", "shapes": []}
    if request.get("compile"):
        reply["error"] = "no compiler"
    if config:
        ready.add(config["name"])
    if "part" in request and request["name"] not in ready:
        reply["error"] = "nothing prepared"
    print(json.dumps(reply), flush=True)
"""


NAMED = {"name": "a"}


@pytest.fixture
def worker(tmp_path, monkeypatch):
    path = tmp_path / "worker.py"
    path.write_text(textwrap.dedent(WORKER))
    monkeypatch.setattr(peers, "WORKER", path)
    return sys.executable


def test_what_takes_too_long_is_ended_and_started_anew(worker):
    with peers.TorchPeer(worker) as torch:
        with pytest.raises(peers.PeerError, match="took longer than 1 s"):
            torch.prepare_step(NAMED | {"sleep": 60}, compile=False, limit=1)
        assert torch.prepare_step(NAMED, compile=False, limit=30)["loss"] == 1.0


def test_a_step_that_was_lost_costs_nothing_else(worker):
    config = step.TINY[0]._replace(name="lost")
    with peers.TorchPeer(worker) as torch:
        theirs = step.torch_steps(torch, [config], 30)["lost"]
        theirs.ready.result()
        with pytest.raises(peers.PeerError, match="took longer than 1 s"):
            torch.prepare_step(NAMED | {"sleep": 60}, compile=False, limit=1)
        work = step.Compiling(config, (step.FORWARD,))
        step.wait_for([work], {"lost": theirs}, 300)
        row = work.measured(theirs=theirs, seconds=1, rounds=1)
    assert row["skipped"] == {"PyTorch": "PeerError: nothing prepared"}
    assert list(row["seconds"]) == [step.FORWARD]


def test_a_request_waits_its_turn_but_not_for_ever(worker, monkeypatch):
    monkeypatch.setattr(peers, "BUSY", 0.5)
    with peers.TorchPeer(worker) as torch:
        slow = step.TINY[0]
        theirs = step.torch_steps(torch, [slow], 30)
        theirs[slow.name].ready.result()
        thread = threading.Thread(
            target=lambda: torch.prepare_step(
                NAMED | {"sleep": 3}, compile=False, limit=30
            )
        )
        thread.start()
        time.sleep(0.3)
        with pytest.raises(peers.PeerError, match="busy with something else"):
            torch.load()
        thread.join()
        torch.load()


def test_without_a_compiler_it_runs_eagerly(worker):
    config = step.TINY[0]
    with peers.TorchPeer(worker, "cuda") as torch:
        runs, facts = step.peer(torch, config, 30)
        assert list(runs) == ["PyTorch eager", "PyTorch eager, augmentation"]
        assert facts["errors"] == ["no compiler"]
        assert not facts["compiled"]
        assert runs["PyTorch eager"](2) == 0.5 * config.steps


@pytest.mark.skipif(
    not os.environ.get("RL_JAX_TORCH_PYTHON"), reason="RL_JAX_TORCH_PYTHON is not set"
)
@pytest.mark.parametrize("config", step.TINY, ids=lambda c: c.name)
def test_step_of_pytorch(config):
    with peers.TorchPeer(os.environ["RL_JAX_TORCH_PYTHON"]) as torch:
        for views in ("flip", "cifar", "simclr"):
            # Two classes of 2B − 1 others, not yet told apart.
            given = config._replace(views=views)
            runs, facts = step.peer(torch, given, 120)
            assert 0 < facts["loss"] < 6
            assert all(run(1) > 0 for run in runs.values())
        torch.drop_step(config.name)

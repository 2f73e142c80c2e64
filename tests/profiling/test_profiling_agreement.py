"""The comparison with other libraries: what differs, fails or is missing is told.

PyTorch's process is replaced by one that answers with NumPy.
"""

import json
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from profiling import agreement, peers
from profiling.cases import Case, Peer, normal
from rl_jax import losses

WORKER = """
import json, math, sys
import numpy as np

requests, replies = sys.stdin.buffer, sys.stdout.buffer
for line in iter(requests.readline, b""):
    request = json.loads(line)
    given = [
        np.frombuffer(requests.read(4 * math.prod(s)), np.float32).reshape(s)
        for s in request["shapes"]
    ]
    reply, arrays = {}, []
    if request["do"] == "hello":
        reply = {"torch": "none", "packages": {"there": "1.2", "authors": "abcdef0"}}
    elif request["name"] == "half":
        # Half of the squared distance, and its gradients.
        x, y = given
        reply = {"value": float(((x - y) ** 2).sum() / len(x) / 2)}
        arrays = [(x - y) / len(x), (y - x) / len(x)]
    elif request["name"] == "doubled":
        arrays = [given[0] * request["options"]["times"]]
    else:
        reply = {"error": "KeyError: it is not here"}
    reply["shapes"] = [list(x.shape) for x in arrays]
    replies.write(json.dumps(reply).encode() + b"\\n")
    for x in arrays:
        replies.write(np.ascontiguousarray(x, np.float32).tobytes())
    replies.flush()
"""
HALF = "theirs is half of it"
DISTANCE = Case(
    "distance", losses.squared_distance, normal((6, 3), (6, 3)), 2, {},
    (
        Peer("there", "half", HALF, factor=2.0),
        Peer("elsewhere", "half"),
        Peer("numpy", "inside", inside=lambda x, y: jnp.sum((x - y) ** 2) / len(x)),
    ),
)  # fmt: skip
ARRAY = Case(
    "array", lambda x, *, times: times * x, normal((4,)), 0, {"times": 2.0},
    (Peer("authors", "doubled"),),
)  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`(cases, *argv) -> (rows, exit code, what was printed)`."""
    folder = tmp_path / "peers"
    folder.mkdir()
    (folder / "torch_agreement.py").write_text(textwrap.dedent(WORKER))
    monkeypatch.setattr(agreement, "WORKER", folder / "worker.py")
    monkeypatch.delenv("RL_JAX_TORCH_PYTHON", raising=False)

    def call(found, *argv, python=sys.executable):
        monkeypatch.setattr(agreement, "CASES", found)
        code = 0
        options = ["--out", str(tmp_path), "--seed", "0", *argv]
        if python:
            options += ["--torch-python", python]
        try:
            agreement.main(options)
        except SystemExit as stopped:
            code = stopped.code
        result = json.loads((tmp_path / "agreement.json").read_text())
        said = capsys.readouterr()
        return result["rows"], code, said.out + said.err

    return call


def test_what_agrees_and_what_is_missing(run, tmp_path):
    rows, code, said = run((DISTANCE, ARRAY))
    assert code == 0
    assert [r["version"] for r in rows] == ["1.2", None, np.__version__, "abcdef0"]
    first, missing, _, array = rows
    assert first["theirs"] == pytest.approx(first["ours"] / 2)
    assert max(first["value_error"], first["gradient_error"]) < 1e-6
    assert missing["ours"] is missing["error"] is None
    assert array["gradient_error"] is None
    assert array["value_error"] < 1e-6
    assert "3 rows compared, 3 agree within 1e-05, 0 do not; 1 are missing." in said
    assert "| elsewhere missing |" in said
    assert f"{HALF} (theirs × 2)" in said
    assert (tmp_path / "agreement.png").stat().st_size > 5000


def test_what_differs_ends_with_1(run):
    wrong = DISTANCE._replace(peers=(Peer("there", "half"),))
    rows, code, said = run((wrong, ARRAY))
    assert code == 1
    assert rows[0]["value_error"] == pytest.approx(1)
    assert rows[0]["gradient_error"] == pytest.approx(1)
    assert "distance, there half: value differs by 1.0e+00, gradient by" in said
    assert "2 rows compared, 1 agree within 1e-05, 1 do not" in said


def test_a_gradient_alone_that_differs_is_seen(run):
    def stopped(x, y):
        return losses.squared_distance(jax.lax.stop_gradient(x), y)

    peer = Peer("numpy", "inside", inside=stopped)
    rows, code, _ = run((DISTANCE._replace(peers=(peer,)),))
    assert code == 1
    assert rows[0]["value_error"] == 0
    assert rows[0]["gradient_error"] == 1


def test_what_fails_is_told_and_the_rest_goes_on(run):
    broken = DISTANCE._replace(peers=(Peer("there", "gone"), DISTANCE.peers[0]))
    other = ARRAY._replace(ours=lambda x, *, times: x[:2])
    rows, code, said = run((broken, other))
    assert code == 1
    assert [bool(r["error"]) for r in rows] == [True, False, True]
    assert "there gone: KeyError: it is not here" in said
    assert "shapes differ: [(2,)], [(4,)]" in said


def test_without_pytorch_its_rows_are_missing(run):
    rows, code, said = run((DISTANCE,), python=None)
    assert code == 0
    assert [r["version"] is None for r in rows] == [True, True, False]
    assert "RL_JAX_TORCH_PYTHON is not set" in said
    _, code, said = run((DISTANCE,), python="/no/such/python")
    assert code == 0
    assert "Libraries of PyTorch are missing: /no/such/python does not start" in said


def test_only_takes_a_word(run):
    rows, _, _ = run((DISTANCE, ARRAY), "--only", "DIST")
    assert {r["name"] for r in rows} == {"distance"}
    _, code, said = run((DISTANCE,), "--only", "nothing")
    assert code == 2
    assert "no row has 'nothing' in its name" in said


def test_every_peer_has_a_function():
    """Names of the cases are keys of the other side's tables, which need PyTorch."""
    folder = peers.WORKER.parent
    parts = ("losses", "masks", "training", "encoders")
    text = "".join((folder / f"torch_{n}.py").read_text() for n in parts)
    for case in agreement.CASES:
        for peer in case.peers:
            assert peer.inside or f'"{peer.name}": ' in text, peer.name


@pytest.mark.slow
@pytest.mark.parametrize("case", agreement.CASES, ids=lambda case: case.name)
def test_ours_is_finite(case):
    arrays = case.inputs(np.random.default_rng(0))
    own = {tuple(peer.ours.items()) for peer in case.peers}
    for options in map(dict, own):
        value, found = agreement._inside(
            case.ours, case.wrt, arrays, case.options | options
        )
        assert value is None or np.isfinite(value)
        assert all(np.isfinite(x).all() and x.any() for x in found)

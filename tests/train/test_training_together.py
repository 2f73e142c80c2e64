"""Two processes of two devices each train as one process of four does."""

import json
import pathlib

import jax
import numpy as np
import pytest
import together
from reference import jobs

from rl_jax import data, train

pytestmark = pytest.mark.core

SCRIPT = pathlib.Path(__file__).with_name("together.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    for code, said in jobs.ended(jobs.start([SCRIPT, folder])):
        assert code == 0, said
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def alone():
    """The rows and the state of one process."""
    rows = []
    mesh = train.data_mesh(jax.devices()[:4])
    return together.fit(together.memory(), mesh=mesh, on_log=rows.append), rows


def test_the_loss_is_that_of_one_process(found, alone):
    np.testing.assert_allclose(
        found["loss"], [row["loss"] for row in alone[1]], rtol=1e-5
    )


def test_a_stop_asked_of_one_stops_all_and_continues_bit_for_bit(found):
    assert found["stopped"] == found["restored"] == 4
    assert found["steps"] == [4, 6]
    assert found["continued"] == found["whole"]


def test_one_process_reads_the_checkpoint_of_two(folder, alone):
    checkpoints = train.Checkpoints(folder / "checkpoints", read_only=True)
    step, state = checkpoints.restore(together.target())
    assert step == together.STEPS
    for one, two in zip(
        jax.tree.leaves(alone[0].params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_each_process_decodes_its_own_rows(folder, found):
    assert found["streamed"] == found["whole"]
    size = together.memory().size
    batches = [
        data.batch_indices(0, step, size=size, batch_size=together.BATCH)
        for step in range(together.STEPS)
    ]
    for rank, half in enumerate(np.split(np.stack(batches), 2, axis=1)):
        decoded = json.loads((folder / f"decoded{rank}.json").read_text())
        assert sorted(decoded) == sorted(half.ravel().tolist())


def test_what_fails_on_one_fails_on_all(found):
    assert found["failed"] == "another process has stopped; it says why"


def test_processes_that_would_not_train_alike_are_refused(folder):
    assert (folder / "unlike0.txt").read_text() == (
        "another process has stopped; it says why"
    )
    assert (folder / "unlike1.txt").read_text() == (
        "process 1 would not train what the first does: seed is 1 here and 0 there; "
        "steps is 7 here and 6 there; start all of them alike"
    )

"""Checkpoints: what was saved comes back bit for bit, or not at all."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import data, train
from rl_jax.errors import CheckpointError, RunError, UsageError
from rl_jax.train import feed, sharding
from rl_jax.types import TrainState

pytestmark = pytest.mark.core


def make(seed=0, width=32):
    """A state with every kind of leaf: key, bfloat16, int, bool, an empty tree."""
    params = {
        "w": jax.random.normal(jax.random.key(seed), (width, 7)),
        "half": jnp.full((3,), 1.5, jnp.bfloat16),
        "flag": jnp.array([True, False]),
        "none": {},
    }
    step = jnp.asarray(seed, jnp.int32)
    opt_state = optax.adam(1e-3).init({"w": params["w"]})
    return TrainState(step, jax.random.key(seed), params, {}, opt_state)


def target(devices=1, **kwargs):
    everywhere = sharding.replicated(train.data_mesh(jax.devices()[:devices]))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        jax.eval_shape(lambda: make(**kwargs)),
    )


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Three sound checkpoints, of steps 1, 2 and 3, saved on eight devices."""
    everywhere = sharding.replicated(train.data_mesh())
    folder = tmp_path_factory.mktemp("eight")
    with train.Checkpoints(folder) as checkpoints:
        for step in (1, 2, 3):
            state = jax.device_put(make(step), everywhere)
            assert len(state.params["w"].sharding.device_set) == 8
            checkpoints.save(step, state)
        checkpoints.finish()
    return folder


@pytest.fixture
def folder(eight, tmp_path):
    return shutil.copytree(eight, tmp_path / "checkpoints")


def restore(folder, devices=1, **kwargs):
    said = []
    with train.Checkpoints(folder, say=said.append) as checkpoints:
        found = checkpoints.restore(target(devices, **kwargs))
    return found, said


def equal(a, b):
    return train.fingerprint(a) == train.fingerprint(b)


def batch_on(devices, step):
    """Ids of the examples of the next step, as that many devices get them."""
    mesh = train.data_mesh(jax.devices()[:devices])
    images = np.zeros((100, 2, 2, 1), np.uint8)
    options = {"mesh": mesh, "seed": 7, "batch_size": 48, "steps": 9}
    options |= {"start_step": step}
    with feed.open_feed(data.arrays(images), **options) as feeding:
        batch = feeding.take(feeding.held, feeding.inputs(step, 1))
        assert len(batch["index"].sharding.device_set) == devices
        return np.asarray(batch["index"]).tolist()


@pytest.mark.parametrize("devices", [1, 3, 8])
def test_the_next_batch_does_not_depend_on_the_devices(folder, devices):
    (step, _), _ = restore(folder, devices)
    expected = data.batch_indices(7, step, size=100, batch_size=48)
    assert batch_on(devices, step) == expected.tolist()


SIXTEEN = """
import sys, pathlib, jax
sys.path[:0] = sys.argv[2:]
import test_checkpoint as t
assert jax.device_count() == 16
(step, state), said = t.restore(pathlib.Path(sys.argv[1]), 16)
assert (step, said) == (3, []) and t.equal(state, t.make(3))
assert len(state.params["w"].sharding.device_set) == 16
assert t.batch_on(16, 3) == t.batch_on(1, 3)
print("equal")
"""


@pytest.mark.slow
def test_comes_back_on_sixteen(folder):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=16")
    here = pathlib.Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SIXTEEN, str(folder), str(here)],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("devices", [1, 3, 8])
def test_comes_back_bit_for_bit_on_any_number_of_devices(folder, devices):
    (step, state), said = restore(folder, devices)
    assert step == 3
    assert not said
    assert isinstance(state, TrainState)
    assert equal(state, make(3))
    assert len(state.params["w"].sharding.device_set) == devices


def test_keeps_the_newest(tmp_path):
    with train.Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 5):
            checkpoints.save(step, make(step))
        checkpoints.finish()
        assert checkpoints.steps() == [3, 4]


def test_arrays_may_be_donated_after_save(tmp_path):
    """The write goes on in the background while the next steps overwrite the state."""
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros((1 << 20,))
    with train.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": x})
        for _ in range(20):
            x = bump(x)
        checkpoints.finish()
        shape = jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=sharding.replicated(train.data_mesh())
        )
        _, state = checkpoints.restore({"x": shape})
    assert not np.any(np.asarray(state["x"]))


def payload(folder, step):
    """The largest file of a checkpoint: where the arrays are."""
    files = (folder / str(step) / "state" / "d").iterdir()
    return max(files, key=lambda p: p.stat().st_size)


def flip_a_bit(folder, step):
    path = payload(folder, step)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_in_half(folder, step):
    path = payload(folder, step)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_the_meta_file(folder, step):
    (folder / str(step) / "meta" / "metadata").unlink()


def tear_the_meta_file(folder, step):
    path = folder / str(step) / "meta" / "metadata"
    path.write_text(path.read_text()[:20])


def empty_the_folder(folder, step):
    shutil.rmtree(folder / str(step))
    (folder / str(step)).mkdir()


def drop_the_arrays(folder, step):
    shutil.rmtree(folder / str(step) / "state")


FAULTS = [
    flip_a_bit,
    cut_in_half,
    drop_the_meta_file,
    tear_the_meta_file,
    empty_the_folder,
    drop_the_arrays,
]


@pytest.mark.fault
@pytest.mark.parametrize("fault", FAULTS)
def test_falls_back_to_the_last_sound_one(folder, fault):
    fault(folder, 3)
    (step, state), said = restore(folder)
    assert step == 2
    assert equal(state, make(2))
    assert len(said) == 1
    assert "checkpoint 3 is not sound" in said[0]
    assert (folder / "3.corrupt").exists()


CLASSES = {
    "meta/metadata": True,
    "state/_METADATA": True,
    "state/manifest.ocdbt": True,
    "state/d/*": True,
    "state/_sharding": False,
    "state/array_metadatas/*": False,
    "state/ocdbt.process_*/manifest.ocdbt": False,
    "state/ocdbt.process_*/d/*": False,
    "_CHECKPOINT_METADATA": False,
    "commit_success.txt": False,
    "*/commit_success.txt": False,
}
"""The files of a checkpoint, and whether its arrays are lost with them. Without others
it may come back: the digests say that what came is what was saved."""


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path):
    path.unlink()


def test_every_file_is_of_a_class(folder):
    found = {p for p in (folder / "3").rglob("*") if p.is_file()}
    assert found == {p for name in CLASSES for p in (folder / "3").glob(name)}


@pytest.mark.fault
@pytest.mark.parametrize("harm", [cut, delete])
@pytest.mark.parametrize("name", CLASSES)
def test_any_file_of_it_harmed(folder, name, harm, capfd):
    """What was saved comes back, or the one before and one line of warning.

    Nothing else is said: no traceback of a read that was still under way.
    """
    for path in list((folder / "3").glob(name)):
        harm(path)
    (step, state), said = restore(folder)
    assert step == 2 or not CLASSES[name]
    assert step in (2, 3)
    assert equal(state, make(step))
    assert len(said) == 3 - step
    if step == 2:
        assert "checkpoint 3 is not sound" in said[0]
        assert (folder / "3.corrupt").exists()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.fault
def test_none_sound_is_an_error_and_stays_one(folder):
    for step in (1, 2, 3):
        flip_a_bit(folder, step)
    before = sorted(p.name for p in folder.iterdir())
    for _ in range(2):
        with pytest.raises(CheckpointError, match="none of 3 checkpoints is sound"):
            restore(folder)
    assert sorted(p.name for p in folder.iterdir()) == before


@pytest.mark.fault
@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(116, "Stale file handle"),
        MemoryError("no memory"),
        RuntimeError("RESOURCE_EXHAUSTED: out of device memory"),
    ],
)
def test_a_fault_that_may_pass_condemns_nothing(folder, monkeypatch, error):
    def broken(self, step, target):
        raise error

    before = sorted(p.name for p in folder.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(train.Checkpoints, "_restore", broken)
        with pytest.raises(RunError, match="cannot be read now") as stopped:
            restore(folder)
    assert stopped.value.exit_code == 1
    assert sorted(p.name for p in folder.iterdir()) == before
    assert restore(folder)[0][0] == 3


def test_any_step_can_be_read(folder):
    with train.Checkpoints(folder, read_only=True) as checkpoints:
        for step in (1, 3, 2):
            assert equal(checkpoints.restore_step(step, target()), make(step))


@pytest.mark.fault
def test_what_a_killed_save_has_left_is_removed_and_told(folder):
    for name in ("5", "4"):
        shutil.copytree(folder / "3", folder / f"{name}.orbax-checkpoint-tmp")
    with train.Checkpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.restore(target())[0] == 3
    assert len(list(folder.glob("*tmp*"))) == 2
    (step, _), said = restore(folder)
    assert step == 3
    assert said == [
        "removed what a save that was cut off has left: 4.orbax-checkpoint-tmp, "
        "5.orbax-checkpoint-tmp"
    ]
    assert not list(folder.glob("*tmp*"))
    assert restore(folder)[1] == []


@pytest.mark.fault
def test_one_that_is_not_sound_is_refused_and_left(folder):
    flip_a_bit(folder, 2)
    before = sorted(p.name for p in folder.iterdir())
    with train.Checkpoints(folder) as checkpoints:
        with pytest.raises(CheckpointError, match="checkpoint 2 cannot be read"):
            checkpoints.restore_step(2, target())
        assert equal(checkpoints.restore_step(3, target()), make(3))
    assert sorted(p.name for p in folder.iterdir()) == before


def test_no_checkpoint_is_none(tmp_path):
    assert restore(tmp_path / "nothing") == (None, [])


@pytest.mark.fault
def test_readers_change_nothing(folder):
    flip_a_bit(folder, 3)
    before = sorted(p.name for p in folder.iterdir())
    said = []
    with train.Checkpoints(folder, say=said.append, read_only=True) as checkpoints:
        assert checkpoints.restore(target())[0] == 2
    assert sorted(p.name for p in folder.iterdir()) == before


def test_another_configuration_is_refused(folder):
    with pytest.raises(UsageError, match=r"\['w'\] is float32\[32, 7\] there"):
        restore(folder, width=33)
    assert (folder / "3").exists()


def test_a_newer_format_is_refused(folder):
    path = folder / "3" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(UsageError, match="format 99"):
        restore(folder)


@pytest.mark.fault
def test_a_failed_save_is_said_and_training_goes_on(tmp_path, monkeypatch):
    said = []
    free = shutil.disk_usage(tmp_path)._replace(free=10)
    with train.Checkpoints(tmp_path / "c", say=said.append) as checkpoints:
        checkpoints.save(1, make(1))
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda path: free)
            checkpoints.save(2, make(2))
        assert "checkpoint of step 2 not written" in said[0]
        with pytest.raises(RunError, match="step 2 not written"):
            checkpoints.finish()
        assert checkpoints.steps() == [1]
        checkpoints.save(3, make(3))
        checkpoints.finish()
        assert checkpoints.steps() == [1, 3]


@pytest.fixture
def large():
    """More than a small disk takes; what is compiled for it has been."""
    state = {"w": jnp.arange(1 << 15, dtype=jnp.float32)}
    train.fingerprint(state)
    return state


@pytest.mark.fault
def test_a_write_that_fails_in_the_background(tmp_path, small_disk, large):
    """It is said at the next save at the latest, and never taken for the newest."""
    said, third = [], make(3)
    with train.Checkpoints(tmp_path / "c", say=said.append) as checkpoints:
        checkpoints.save(1, make(1))
        checkpoints.wait()
        with small_disk():
            checkpoints.save(2, large)
            assert not said
            checkpoints.save(3, third)  # all of its files are small
            assert len(said) == 1
            assert "not written" in said[0]
            checkpoints.wait()
        checkpoints.finish()
        assert checkpoints.steps() == [1, 3]
        assert not list((tmp_path / "c").glob("*tmp*"))
        assert checkpoints.restore(target())[0] == 3


@pytest.mark.fault
def test_a_write_that_fails_is_said_without_another_save(tmp_path, small_disk, large):
    said = []
    with train.Checkpoints(tmp_path / "c", say=said.append) as checkpoints:
        checkpoints.save(1, make(1))
        checkpoints.wait()
        with small_disk():
            checkpoints.save(2, large)
            for _ in range(600):
                checkpoints.poll()
                if said:
                    break
                time.sleep(0.05)
        (line,) = said
        assert line.startswith("warning: checkpoint of step 2 not written: ")
        assert not list((tmp_path / "c").glob("*tmp*"))
        with pytest.raises(RunError, match="the run ended, but checkpoint of step 2"):
            checkpoints.finish()
        assert len(said) == 1


SAID = """
import logging, resource, sys, threading, jax.numpy as jnp
from absl import logging as absl_logging
from rl_jax import train
say = lambda line: print(line, file=sys.stderr)
threads = threading.active_count()
with train.Checkpoints(sys.argv[1], say=say) as checkpoints:
    checkpoints.save(1, {"w": jnp.ones(3)})
    checkpoints.wait()
    state = {str(i): jnp.arange(1 << 14, dtype=jnp.float32) + i for i in range(40)}
    train.fingerprint(state)
    for step in (2, 3):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        checkpoints.save(step, state)
        absl_logging.error("of somebody else")
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    absl_logging.error("still heard")
"""


@pytest.mark.fault
def test_a_failed_write_is_one_line_of_standard_error(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAID, str(tmp_path)],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    assert len(lines) == 5, done.stderr
    for step, (other, line) in enumerate((lines[:2], lines[2:4]), start=2):
        assert other == "ERROR:absl:of somebody else"
        assert line.startswith(f"warning: checkpoint of step {step} not written: ")
    assert lines[4] == "ERROR:absl:still heard"


@pytest.mark.fault
def test_the_last_write_fails_in_the_background(tmp_path, small_disk, large):
    said = []
    with train.Checkpoints(tmp_path / "c", say=said.append) as checkpoints:
        checkpoints.save(1, make(1))
        checkpoints.wait()
        with small_disk():
            checkpoints.save(2, large)
            with pytest.raises(RunError, match="the run ended, but checkpoint"):
                checkpoints.finish()
        assert len(said) == 1
        assert checkpoints.steps() == [1]
        assert checkpoints.restore(target())[0] == 1


def test_digest_sees_swaps_and_single_bits():
    base = np.arange(1000, dtype=np.float32)
    seen = {json.dumps(train.fingerprint({"x": jnp.asarray(base)}))}
    for i in range(0, 1000, 37):
        flipped = base.copy()
        flipped.view(np.uint32)[i] ^= 1 << (i % 32)
        swapped = base.copy()
        swapped[[i, (i + 1) % 1000]] = swapped[[(i + 1) % 1000, i]]
        for x in (flipped, swapped):
            seen.add(json.dumps(train.fingerprint({"x": jnp.asarray(x)})))
    assert len(seen) == 1 + 2 * len(range(0, 1000, 37))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex64])
def test_digest_sees_all_64_bits_of_numpy(dtype):
    base = np.arange(6).reshape(2, 3).astype(dtype)
    seen = {json.dumps(train.fingerprint({"x": base}))}
    for bit in range(64):
        flipped = base.copy()
        flipped.reshape(-1).view(np.uint64)[4] ^= np.uint64(1) << np.uint64(bit)
        seen.add(json.dumps(train.fingerprint({"x": flipped})))
    assert len(seen) == 1 + 64
    if dtype != np.complex64:
        with jax.enable_x64(True):
            assert json.dumps(train.fingerprint({"x": jnp.asarray(base)})) in seen


def test_64_bits_of_numpy_come_back(tmp_path):
    state = {"x": np.arange(3) + 2**40, "y": np.float64([0.1])}
    checkpoints = train.Checkpoints(tmp_path)
    checkpoints.save(1, state)
    checkpoints.finish()
    step, found = checkpoints.restore(state)
    assert step == 1
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_digest_does_not_depend_on_the_sharding():
    x = jnp.arange(64.0).reshape(16, 4)
    many = jax.device_put(x, sharding.batched(train.data_mesh()))
    assert train.fingerprint({"x": x}) == train.fingerprint({"x": many})


def test_what_was_just_saved_is_there(tmp_path):
    with train.Checkpoints(tmp_path) as checkpoints:
        for step in (1, np.int64(2), jnp.int32(3)):
            checkpoints.save(step, make(seed=int(step)))
            assert checkpoints.steps()[-1] == step
            assert checkpoints.restore(target())[0] == step


def test_numbers_of_python_are_saved_too(tmp_path):
    with train.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(3), "epoch": 5})
        everywhere = sharding.replicated(train.data_mesh())
        like = {"w": (3,), "epoch": ()}
        dtypes = {"w": jnp.float32, "epoch": jnp.int32}
        step, found = checkpoints.restore(
            {
                name: jax.ShapeDtypeStruct(shape, dtypes[name], sharding=everywhere)
                for name, shape in like.items()
            }
        )
    assert (step, int(found["epoch"])) == (1, 5)


def test_what_cannot_be_kept_is_refused(folder):
    with pytest.raises(UsageError, match="keep must be at least 1, got 0"):
        train.Checkpoints(folder, keep=0)
    with train.Checkpoints(folder, read_only=True) as checkpoints:
        with pytest.raises(UsageError, match="opened to read only"):
            checkpoints.save(4, make())
        assert checkpoints.steps() == [1, 2, 3]
    with (
        train.Checkpoints(folder) as checkpoints,
        pytest.raises(UsageError, match="step must be >= 0, got -1"),
    ):
        checkpoints.save(-1, make())

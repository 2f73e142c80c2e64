"""Streams: the same batches however they are read, and faults of the workers."""

import contextlib
import functools
import gc
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

import rl_jax
from rl_jax.data import Source, arrays, batch_indices, folder, rows, stream
from rl_jax.errors import UsageError, WorkerError

SIZE = 23


def load(index, *, pause=0.0):
    time.sleep(pause)
    return np.full((2, 2, 1), index, np.uint8)


def load_or_raise(index, *, error):
    if index == 7:
        raise error
    return load(index)


def source(fun=load, **options):
    labels = np.arange(SIZE, dtype=np.int32) * 10
    return Source("s", SIZE, (2, 2, 1), functools.partial(fun, **options), labels)


def children():
    return [p for p in multiprocessing.active_children() if "grain" in p.name]


def within(seconds, condition):
    end = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return result


def open_batches():
    """Names of the batches in shared memory that this process has open."""
    maps = pathlib.Path("/proc/self/maps").read_text()
    return set(re.findall(r"/dev/shm/(psm_\w+)", maps))


def shared_memory(size):
    """Names of the shared memory of this size, whosever it is."""
    names = set()
    for path in pathlib.Path("/dev/shm").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == size:
                names.add(path.name)
    return names


def assert_batches(batches, *, seed, start):
    for step, batch in enumerate(batches, start):
        index = batch_indices(seed, step, size=SIZE, batch_size=5)
        assert set(batch) == {"index", "image", "label"}
        np.testing.assert_array_equal(batch["index"], index)
        np.testing.assert_array_equal(batch["label"], index * 10)
        image = np.broadcast_to(index[:, None, None, None], (5, 2, 2, 1))
        np.testing.assert_array_equal(batch["image"], image)
        for name, dtype in (("index", "i4"), ("image", "u1"), ("label", "i4")):
            assert batch[name].dtype == np.dtype(dtype)
            assert type(batch[name]) is np.ndarray
            assert batch[name].flags.writeable


@pytest.fixture
def no_collector():
    """What is freed in the test is freed by the code, not by chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("start", [0, 3, 10**9])
def test_batch_is_a_function_of_the_step(start, threads):
    options = {"seed": 4, "batch_size": 5, "start_step": start, "num_steps": 9}
    with stream(source(), threads=threads, prefetch=2, **options) as batches:
        found = list(batches)
    assert len(found) == 9
    assert_batches(found, seed=4, start=start)


def test_images_in_memory_need_no_threads():
    images = np.stack([load(i) for i in range(SIZE)])
    held = arrays(images, np.arange(SIZE) * 10)
    before = set(threading.enumerate())
    with stream(
        held, seed=4, batch_size=5, start_step=2, num_steps=9, workers=2
    ) as batches:
        found = list(batches)
        assert not set(threading.enumerate()) - before
    assert len(found) == 9
    assert_batches(found, seed=4, start=2)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.usefixtures("no_collector")
def test_worker_processes_give_the_same_batches(workers):
    with stream(
        source(), seed=4, batch_size=5, start_step=3, num_steps=7, workers=workers
    ) as batches:
        found = list(batches)
    assert len(found) == 7
    assert_batches(found, seed=4, start=3)
    assert not children()
    if sys.platform == "linux":
        assert within(5, lambda: not open_batches())


def test_close_early():
    before = threading.active_count()
    batches = stream(source(), seed=0, batch_size=5, num_steps=10**9)
    next(batches)
    batches.close()
    batches.close()
    assert within(5, lambda: threading.active_count() <= before)
    assert list(batches) == []


def test_close_early_with_workers():
    batches = stream(source(), seed=0, batch_size=5, num_steps=10**9, workers=2)
    next(batches)
    assert within(20, lambda: len(children()) == 2)
    batches.close()
    assert not children()


def test_forgotten_stream_is_closed():
    before = threading.active_count()
    batches = stream(source(), seed=0, batch_size=5, num_steps=10**9)
    next(batches)
    del batches
    gc.collect()
    assert within(5, lambda: threading.active_count() <= before)


def test_empty_stream():
    assert list(stream(source(), seed=0, batch_size=5, num_steps=0)) == []


@pytest.mark.parametrize(("workers", "chosen"), [(0, False), (1, False), (1, True)])
def test_undecodable_files_are_counted_and_unlabelled(
    tmp_path, workers, chosen, caplog, capfd
):
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.new("L", (4, 4), i).save(tmp_path / "ab"[i % 2] / f"{i:02}.png")
    (tmp_path / "a" / "00.png").write_bytes(b"")
    files = folder(tmp_path, size=4)
    if chosen:
        files = rows(files, np.arange(12))
    with stream(files, seed=0, batch_size=6, num_steps=2, workers=workers) as batches:
        label = {
            i: n for b in batches for i, n in zip(b["index"], b["label"], strict=True)
        }
    assert label == {i: -1 if i == 0 else i // 6 for i in range(12)}
    assert files.problems() == {"seen": 12, "bad": 1, "names": ("a/00.png",)}
    assert sum("a/00.png" in message for message in caplog.messages) == 1
    assert "a/00.png" not in capfd.readouterr().err  # where a worker would log


@pytest.mark.fault
def test_an_error_is_one_line_and_final():
    broken = source(load_or_raise, error=KeyError("two\nlines"))
    batches = stream(broken, seed=0, batch_size=5, num_steps=40, timeout=10)
    with pytest.raises(WorkerError, match="data: KeyError: .*two") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5
    with pytest.raises(WorkerError, match="KeyError"):
        next(batches)


@pytest.mark.fault
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_usage_errors_stay_what_they_are(workers):
    broken = source(load_or_raise, error=UsageError("too many bad files"))
    batches = stream(broken, seed=0, batch_size=5, num_steps=40, workers=workers)
    with pytest.raises(UsageError) as caught:
        list(batches)
    assert str(caught.value) == "too many bad files"
    assert not children()


@pytest.mark.fault
def test_killed_worker():
    options = {"seed": 0, "batch_size": 5, "num_steps": 10**6, "workers": 2}
    with stream(source(pause=0.01), **options) as batches:
        next(batches)
        assert within(20, lambda: len(children()) == 2)
        os.kill(children()[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match=r"ended with SIGKILL \(out of memory\?"):
            list(batches)
    assert not children()


@pytest.mark.fault
def test_stopped_worker():
    options = {"seed": 0, "batch_size": 5, "num_steps": 10**6, "workers": 1}
    batches = stream(source(), timeout=60, **options)
    next(batches)
    (worker,) = children()
    batches._batches._timeout = 1
    os.kill(worker.pid, signal.SIGSTOP)
    start = time.monotonic()
    message = rf"no batch within 1 s: worker 0 \(pid {worker.pid}\) is stopped"
    with pytest.raises(WorkerError, match=message):
        list(batches)
    assert not children()
    assert time.monotonic() - start < 20


@pytest.mark.fault
def test_stalled_decoder():
    slow = source(pause=0.2)
    with (
        stream(slow, seed=0, batch_size=5, num_steps=2, timeout=0.1) as batches,
        pytest.raises(WorkerError, match="no batch within 0.1 s: decoding stalled"),
    ):
        next(batches)


TRAINER = """
import multiprocessing, time
import numpy as np
from rl_jax.data import Source, stream

def load(index):
    return np.full((61, 67, 3), index, np.uint8)

if __name__ == "__main__":
    source = Source("s", 64, (61, 67, 3), load)
    batches = stream(source, seed=0, batch_size=8, num_steps=10**6, workers=2)
    for _ in range(8):
        next(batches)
    # A worker that dies while it creates shared memory leaves it: Python registers it
    # for removal only then. Both have filled their buffers and wait after this.
    time.sleep(1)
    print(*(p.pid for p in multiprocessing.active_children()), flush=True)
    time.sleep(120)
"""


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_trainer_leaves_nothing(tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    root = pathlib.Path(rl_jax.__file__).parent.parent
    batch = 8 * 61 * 67 * 3  # bytes; no other test has batches of this size
    before = shared_memory(batch)
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
        text=True,
    ) as trainer:
        workers = trainer.stdout.readline().split()
        assert len(workers) == 2
        os.kill(int(workers[0]), signal.SIGSTOP)
        assert shared_memory(batch) > before
        trainer.kill()
        trainer.wait()
        assert within(
            5, lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers)
        )
    assert within(5, lambda: shared_memory(batch) <= before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 24}, "batch_size must be <= the 23 examples .* got 24"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"seed": -1}, "seed must be in .* got -1"),
        ({"start_step": -2}, "step must be >= 0, got -2"),
        ({"num_steps": -1}, "stream: num_steps must be >= 0, got -1"),
        ({"workers": -1}, "stream: workers must be >= 0, got -1"),
        ({"threads": 0}, "stream: threads must be >= 1, got 0"),
        ({"prefetch": 0}, "stream: prefetch must be >= 1, got 0"),
        ({"timeout": 0}, "stream: timeout must be > 0 seconds, got 0"),
    ],
)
def test_messages(refused, change, message):
    with refused(message):
        stream(source(), **({"seed": 0, "batch_size": 5, "num_steps": 1} | change))
